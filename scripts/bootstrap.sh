# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Sourced by the other scripts: installs what a fresh Debian or Ubuntu machine lacks, and nothing where all is there.
#   xsoftmax_require PACKAGE...   stops with a clear message if one of them cannot be had
#   xsoftmax_want PACKAGE...      goes on without those that cannot be had
# Afterwards CXX names a compiler that is new enough, and xsoftmax_cmake_options holds what CMake must be told.
# xsoftmax_asan_options is what it must be told for the build under sanitizers.

xsoftmax_cmake_options=()

# The build under AddressSanitizer and UndefinedBehaviorSanitizer, of which scripts/test and scripts/fuzz share build/asan.
# Debug: the kernels are optimised all the same, and the tests around them compile in a tenth of the time. Of debug
# information only the lines, which is what reports name: all of it doubles the time of a kernel. Left out are the three
# checks of undefined behaviour that mostly repeat AddressSanitizer's: with them the kernels take clang two and a half times
# as long. Undefined behaviour traps, and AddressSanitizer says where (handle_sigill): reports of its own take a sixth longer
# to compile.
# shellcheck disable=SC2034
xsoftmax_asan_options=(
  -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-gline-tables-only
  -DXSOFTMAX_TEST_MODES=dispatch -DXSOFTMAX_BUILD_EXAMPLES=OFF -DXSOFTMAX_BUILD_FUZZERS=ON
  "-DCMAKE_CXX_FLAGS=-fsanitize=address,undefined -fno-sanitize=null,object-size,pointer-overflow -fsanitize-trap=undefined -fno-omit-frame-pointer"
)

xsoftmax_say() { printf '[%s] %s\n' "$(date +%H:%M:%S)" "$*"; }

xsoftmax_installed() { dpkg-query -W -f '${Status}\n' "$1" 2>/dev/null | grep -q '^install ok installed$'; }

# The administrator's rights for one command.
xsoftmax_as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "cannot install packages: this is neither root nor is there sudo; as root, run: $*" >&2
    return 1
  fi
}

xsoftmax_apt_updated=
# apt-get without questions; its output only if it fails.
xsoftmax_apt_install() {
  local log
  log=$(mktemp)
  if [ -z "$xsoftmax_apt_updated" ]; then
    xsoftmax_say "reading the package lists"
    xsoftmax_as_root apt-get -q -o DPkg::Lock::Timeout=300 update >"$log" 2>&1 || { tail -n 5 "$log" >&2; xsoftmax_say "apt-get update failed; trying with the old lists"; }
    xsoftmax_apt_updated=yes
  fi
  if ! xsoftmax_as_root env DEBIAN_FRONTEND=noninteractive apt-get -qy -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@" >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}

# Sets `missing` to those of the arguments that are not installed.
xsoftmax_find_missing() {
  local package
  missing=()
  for package in "$@"; do
    xsoftmax_installed "$package" || missing+=("$package")
  done
}

xsoftmax_require() {
  local missing
  if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    xsoftmax_say "this is not Debian or Ubuntu: taking it that these are installed by other means: $*"
    xsoftmax_choose_tools
    return 0
  fi
  xsoftmax_find_missing "$@"
  if [ ${#missing[@]} -gt 0 ]; then
    xsoftmax_say "installing ${missing[*]}"
    xsoftmax_apt_install "${missing[@]}" || { echo "could not install: ${missing[*]}" >&2; exit 1; }
  fi
  xsoftmax_choose_tools
}

xsoftmax_want() {
  local missing package
  command -v apt-get >/dev/null || return 0
  xsoftmax_find_missing "$@"
  for package in "${missing[@]}"; do
    xsoftmax_say "installing $package (optional)"
    xsoftmax_apt_install "$package" >/dev/null 2>&1 || xsoftmax_say "no $package here: going on without it"
  done
}

# What older releases than Debian 12 have under the usual names is too old: Ubuntu 22.04 has g++ 11 beside g++ 12, and its
# xsimd is 7, so that CMake downloads that one.
xsoftmax_choose_tools() {
  local major version
  if [ -z "${CXX:-}" ] && command -v g++ >/dev/null; then
    major=$(g++ -dumpversion)
    if [ "${major%%.*}" -lt 12 ]; then
      if ! command -v g++-12 >/dev/null; then
        xsoftmax_say "g++ is version $major, 12 is needed: installing g++-12"
        xsoftmax_apt_install g++-12 || { echo "g++ 12 or later is needed" >&2; exit 1; }
      fi
      export CXX=g++-12
    fi
  fi
  if xsoftmax_installed libxsimd-dev; then
    version=$(dpkg-query -W -f '${Version}' libxsimd-dev)
    if dpkg --compare-versions "$version" lt 8.1; then
      xsoftmax_say "the packaged xsimd is $version, 8.1 is needed: CMake will download it"
      command -v git >/dev/null || xsoftmax_apt_install git ca-certificates
      xsoftmax_cmake_options=(-DXSOFTMAX_FETCH_DEPENDENCIES=ON)
    fi
  fi
}

// SPDX-License-Identifier: MIT
#include "machine.hpp"
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sched.h>
#include <sys/utsname.h>

namespace bench {

namespace {

struct cache {
  std::string level;
  std::string type;
  std::size_t bytes;
};

std::string first_line(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::vector<cache> data_caches() {
  std::vector<cache> caches;
  for (int index = 0; index < 8; ++index) {
    const std::filesystem::path folder = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index);
    const std::string type = first_line(folder / "type");
    const std::string size = first_line(folder / "size");
    if (size.empty() || type == "Instruction") {
      continue;
    }
    std::size_t bytes = std::stoull(size);
    bytes <<= size.back() == 'K' ? 10 : size.back() == 'M' ? 20 : 0;
    caches.push_back({first_line(folder / "level"), type, bytes});
  }
  return caches;
}

// The value of "key : value" or "key=value" in a file of such lines.
std::string value_of(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(key, 0) == 0) {
      const std::size_t at = line.find_first_of(":=", key.size());
      if (at != std::string::npos && line.find_first_not_of(" \t", key.size()) == at) {
        std::string value = line.substr(at + 1);
        value.erase(0, value.find_first_not_of(" \t\""));
        value.erase(value.find_last_not_of(" \t\"") + 1);
        return value;
      }
    }
  }
  return {};
}

} // namespace

std::size_t last_level_cache() {
  std::size_t largest = 0;
  for (const cache& c : data_caches()) {
    largest = std::max(largest, c.bytes);
  }
  return largest;
}

std::vector<std::pair<std::string, std::string>> describe_machine() {
  std::vector<std::pair<std::string, std::string>> facts;
  facts.emplace_back("processor", value_of("/proc/cpuinfo", "model name"));
  const std::string family = value_of("/proc/cpuinfo", "cpu family");
  facts.emplace_back("processor_family",
                     family.empty() ? "" : family + ", model " + value_of("/proc/cpuinfo", "model"));
  for (const cache& c : data_caches()) {
    facts.emplace_back("cache_l" + c.level, std::to_string(c.bytes));
  }
  const bool is_virtual = value_of("/proc/cpuinfo", "flags").find("hypervisor") != std::string::npos;
  facts.emplace_back("virtual_machine", is_virtual ? "yes" : "no");
  utsname system{};
  uname(&system);
  const std::string distribution = value_of("/etc/os-release", "PRETTY_NAME");
  facts.emplace_back("operating_system", distribution + ", " + system.sysname + " " + system.release);
  facts.emplace_back("transparent_huge_pages", first_line("/sys/kernel/mm/transparent_hugepage/enabled"));
#if defined(__clang__)
  facts.emplace_back("compiler", "clang " __clang_version__);
#else
  facts.emplace_back("compiler", "g++ " __VERSION__);
#endif
  return facts;
}

int pin_to_core(int wanted, pthread_t thread) {
  const std::vector<int> cores = allowed_cores();
  const int core = wanted >= 0 || cores.empty() ? wanted : cores.back();
  cpu_set_t chosen;
  CPU_ZERO(&chosen);
  if (core < 0 || core >= CPU_SETSIZE) {
    return -1;
  }
  CPU_SET(core, &chosen);
  return pthread_setaffinity_np(thread, sizeof chosen, &chosen) == 0 ? core : -1;
}

std::vector<int> allowed_cores() {
  std::vector<int> cores;
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
    for (int i = 0; i < CPU_SETSIZE; ++i) {
      if (CPU_ISSET(i, &allowed)) {
        cores.push_back(i);
      }
    }
  }
  return cores;
}

bool share_a_core(int core, int other) {
  const auto place = [](int i) {
    const std::string folder = "/sys/devices/system/cpu/cpu" + std::to_string(i) + "/topology/";
    return first_line(folder + "physical_package_id") + "/" + first_line(folder + "core_id");
  };
  return place(core) != "/" && place(core) == place(other);
}

int second_core(const std::vector<int>& cores, int core) {
  const auto distance = [&](int i) { return std::pair(share_a_core(core, i), std::abs(core - i)); };
  int nearest = -1;
  for (const int i : cores) {
    if (i != core && (nearest < 0 || distance(i) < distance(nearest))) {
      nearest = i;
    }
  }
  return nearest;
}

} // namespace bench

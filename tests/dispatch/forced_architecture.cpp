// SPDX-License-Identifier: MIT
// What XSOFTMAX_ARCH may hold. The first call decides for the whole process, so that every case below is one process:
//   unknown       an unknown value is an error from every dispatched call and again from the next, until it is mended
//   unsupported   so is the name of an architecture that this machine lacks (run under an emulator)
//   empty         the same as unset
//   first_call    the variable is read once: what it becomes later changes nothing
#include "answer_check.hpp"
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

namespace {

int failures = 0;

void expect(bool holds, const char* what) {
  if (!holds) {
    std::printf("failed: %s\n", what);
    ++failures;
  }
}

/// Runs `call`; it must raise std::runtime_error and its message must hold all `parts`.
template <class Call, class... Parts>
void expect_error(Call call, const char* what, Parts... parts) {
  try {
    call();
    std::printf("failed: no error from %s\n", what);
    ++failures;
  } catch (const std::runtime_error& error) {
    const std::string message = error.what();
    const bool complete = ((message.find(parts) != std::string::npos) && ...);
    if (!complete) {
      std::printf("failed: %s: incomplete message: %s\n", what, message.c_str());
      ++failures;
    }
  }
}

template <class... Parts>
void expect_errors_everywhere(Parts... parts) {
  const std::vector<float> zf = {1, 2, 3};
  const std::vector<double> zd = {1, 2, 3};
  std::vector<float> pf(3, 7.0F);
  std::vector<double> pd(3, 7.0);
  for (int i = 0; i < 3; ++i) {
    expect_error([&] { xsoftmax::softmax(zf, pf); }, "softmax, float", parts...);
    expect_error([&] { xsoftmax::softmax<xsoftmax::runtime>(zd, pd); }, "softmax, double", parts...);
    expect_error([&] { (void)xsoftmax::softmax(zf); }, "softmax returning a vector", parts...);
    expect_error(
        [&] {
          xsoftmax::softmax(xsoftmax::matrix_view<const float>{zf.data(), 3, 1},
                            xsoftmax::matrix_view<float>{pf.data(), 3, 1});
        },
        "softmax of a matrix", parts...);
    expect_error([&] { (void)xsoftmax::active_architecture(); }, "active_architecture", parts...);
    expect_error([&] { xsoftmax::softmax_backward(zf, zf, pf); }, "softmax_backward", parts...);
    // Raised by the caller's own thread: the executor is never asked.
    const std::vector<float> large(100000, 1.0F);
    std::vector<float> out(large.size(), 7.0F);
    bool asked = false;
    const auto executor = [&](std::size_t, auto&&) { asked = true; };
    expect_error(
        [&] {
          xsoftmax::softmax(executor, xsoftmax::matrix_view<const float>{large.data(), 100, 1000},
                            xsoftmax::matrix_view<float>{out.data(), 100, 1000});
        },
        "softmax with an executor", parts...);
    expect(!asked, "the executor was not called");
  }
  expect(pf == std::vector<float>(3, 7.0F) && pd == std::vector<double>(3, 7.0), "nothing was written");
}

} // namespace

int main(int argc, char** argv) {
  const std::string which = argc > 1 ? argv[1] : "";
  if (which == "unknown") {
    for (const char* value : {"avx1024", "AVX2", "avx2 ", "runtime", "0"}) {
      setenv("XSOFTMAX_ARCH", value, 1);
      expect_errors_everywhere("XSOFTMAX_ARCH=" + std::string(value), "names no architecture", "choices: ",
#if defined(__x86_64__)
                               "sse2"
#else
                               "neon64"
#endif
      );
    }
    const std::string longest(100000, 'x');
    setenv("XSOFTMAX_ARCH", longest.c_str(), 1);
    expect_errors_everywhere("XSOFTMAX_ARCH=xxxx", "choices: ");
    setenv("XSOFTMAX_ARCH", "", 1);
    expect(answers_are_right<xsoftmax::runtime>(), "right answers once the value is mended");
#if defined(__x86_64__)
  } else if (which == "unsupported") {
    setenv("XSOFTMAX_ARCH", "avx512", 1);
    expect_errors_everywhere("XSOFTMAX_ARCH=avx512", "not supported", "choices: ", "sse2");
    setenv("XSOFTMAX_ARCH", "sse2", 1);
    expect(answers_are_right<xsoftmax::runtime>(), "right answers once the value is mended");
    expect(std::strcmp(xsoftmax::active_architecture(), "sse2") == 0, "the mended value is in use");
#endif
  } else if (which == "empty") {
    setenv("XSOFTMAX_ARCH", "", 1);
    const std::string active = xsoftmax::active_architecture();
    expect(argc > 2 && active == argv[2], "empty is unset: the best architecture is in use");
  } else if (which == "first_call") {
    const char* named = xsoftmax::default_arch::name;
    expect(std::strcmp(named, "runtime") == 0, "a call without a tag dispatches");
#if defined(__x86_64__)
    setenv("XSOFTMAX_ARCH", "sse2", 1);
#endif
    const std::string before = xsoftmax::active_architecture();
    setenv("XSOFTMAX_ARCH", "avx1024", 1);
    expect(answers_are_right<xsoftmax::runtime>(), "a later value does not reach the kernels");
    expect(before == xsoftmax::active_architecture(), "a later value does not reach the name");
  } else {
    std::puts("usage: forced_architecture unknown | unsupported | empty BEST | first_call");
    return 2;
  }
  return failures == 0 ? 0 : 1;
}

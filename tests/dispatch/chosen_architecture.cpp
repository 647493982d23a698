// SPDX-License-Identifier: MIT
// chosen_architecture [EXPECTED]: runs both kernels through the dispatcher and fails unless the answers are right, the
// architecture is the expected one, and it is the one that really computes: every kernel's bits are those of the tag
// named.
#include "answer_check.hpp"
#include <cstring>

namespace {

/// Does the dispatched call give the bits of Arch, wherever Arch is the one in use?
template <class Arch>
bool agrees_with_tag() {
  if (std::strcmp(xsoftmax::active_architecture(), Arch::name) != 0) {
    return true;
  }
  const std::vector<float> z = example_row<float>(5000);
  return xsoftmax::softmax(z) == xsoftmax::softmax<Arch>(z);
}

} // namespace

int main(int argc, char** argv) {
  const bool right = answers_are_right<xsoftmax::runtime>();
  const char* active = xsoftmax::active_architecture();
  std::printf("architecture: %s, answers: %s\n", active, right ? "right" : "WRONG");
  if (argc > 1 && std::strcmp(active, argv[1]) != 0) {
    std::printf("expected: %s\n", argv[1]);
    return 1;
  }
#if defined(__x86_64__)
  const bool same = agrees_with_tag<xsoftmax::arch::sse2>() && agrees_with_tag<xsoftmax::arch::avx2>() &&
                    agrees_with_tag<xsoftmax::arch::avx512>();
#else
  const bool same = agrees_with_tag<xsoftmax::arch::neon64>();
#endif
  if (!same) {
    std::puts("the dispatched call and the call by tag differ");
  }
  return right && same ? 0 : 1;
}

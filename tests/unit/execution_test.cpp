// SPDX-License-Identifier: MIT
// The execution policies of the standard library as executors.

#include <vector>
#include <xsoftmax/execution.hpp>

#include "../support/catch.hpp"
#include "../support/executor_checks.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

static_assert(xs::detail::executor<decltype(std::execution::par)>);
static_assert(xs::detail::executor<std::execution::sequenced_policy>);

TEMPLATE_LIST_TEST_CASE("executor: execution policies give the bits of the call without", "[executor][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const layout& l : {layouts_of(900, 301)[0], layouts_of(900, 301)[3]}) {
    const auto check = [&](const char* what, const auto& policy) {
      expect_bits_of_serial_call<Arch, T>(found, 900, 301, l, what,
                                          [&](auto call, auto x, auto y, auto out) { call.run(x, y, out, policy); });
    };
    check("seq", std::execution::seq);
    check("par", std::execution::par);
    check("par_unseq", std::execution::par_unseq);
    check("unseq", std::execution::unseq);
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEST_CASE("executor: errors are raised before a policy is used", "[executor][errors][unit]") {
  const std::vector<float> z(12, 1.0f);
  std::vector<float> p(11, -7.0f);
  CHECK_THROWS_AS(xs::softmax(std::execution::par, z, p), std::invalid_argument);
  CHECK(p == std::vector<float>(11, -7.0f));
}

// SPDX-License-Identifier: MIT
// No access outside the views: guard pages on both sides, and strides beyond 2^31 elements.

#include <algorithm>
#include <limits>
#include <string>
#include <sys/mman.h>
#include <vector>

#include "../support/catch.hpp"
#include "../support/guarded_buffer.hpp"
#include "../support/rows.hpp"
#include "../support/softmax_checks.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

TEMPLATE_LIST_TEST_CASE("softmax: reads and writes nothing beyond its rows", "[softmax][memory][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  std::vector<std::size_t> lengths;
  for (std::size_t n = 1; n <= 140; ++n) {
    lengths.push_back(n);
  }
  for (const std::size_t centre : {256u, 512u, 1024u, 2048u, 3072u, 4096u, 8192u}) {
    for (std::size_t n = centre - 3; n <= centre + 17; n += 1 + n % 3) {
      lengths.push_back(n);
    }
  }
  findings found;
  for (const std::size_t n : lengths) {
    const std::vector<T> ordinary = make_row<T>(row_kind::normal, n, 91);
    const std::vector<T> enormous = make_row<T>(row_kind::enormous_close, n, 92);
    const std::vector<T> masked(n, -std::numeric_limits<T>::infinity());
    for (const flush_with side : {flush_with::front, flush_with::back}) {
      // Flush, and a few elements away: the vectors then end at other places.
      const std::size_t offset = n % 4 == 3 ? 1 + n % 13 : 0;
      guarded_buffer<T> in(n, side, side == flush_with::front ? offset : 0);
      guarded_buffer<T> out(n, side);
      for (const std::vector<T>* z : {&ordinary, &enormous, &masked}) {
        for (const xs::softmax_algorithm algorithm : algorithms) {
          for (const double temperature : {1.0, 0.0, 0.7}) {
            const xs::softmax_options options{.temperature = temperature,
                                              .algorithm = algorithm,
                                              .masked_row = xs::masked_row_policy::zero,
                                              .store = stores[n % 3]};
            const std::vector<T> expected = probabilities<Arch>(*z, options);
            std::copy(z->begin(), z->end(), in.data());
            xs::softmax<Arch>(xs::vector_view<const T>(in.data(), n), xs::vector_view<T>(out.data(), n), options);
            expect_same_bits(found, expected.data(), out.data(), "between guards", *z, options);
            xs::softmax<Arch>(xs::vector_view<const T>(in.data(), n), xs::vector_view<T>(in.data(), n), options);
            expect_same_bits(found, expected.data(), in.data(), "between guards, in place", *z, options);
          }
        }
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: matrices and strided rows stay between the guards", "[softmax][memory][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const std::size_t rows : {1u, 2u, 3u, 4u, 5u, 8u, 9u, 16u, 17u, 33u}) {
    for (const std::size_t cols : {1u, 2u, 3u, 5u, 8u, 13u, 16u, 17u, 31u, 32u, 63u, 64u, 65u, 129u}) {
      const std::size_t n = rows * cols;
      const std::vector<T> z = make_row<T>(row_kind::normal, n, 93);
      for (const flush_with side : {flush_with::front, flush_with::back}) {
        guarded_buffer<T> in(n, side);
        guarded_buffer<T> out(n, side);
        std::copy(z.begin(), z.end(), in.data());
        for (const xs::softmax_algorithm algorithm : algorithms) {
          const xs::softmax_options options{.algorithm = algorithm, .store = stores[(rows + cols) % 3]};
          const auto check = [&](xs::matrix_view<const T> from, xs::matrix_view<T> to) {
            std::fill(out.begin(), out.end(), T(-5));
            xs::softmax<Arch>(from, to, options);
            for (std::size_t r = 0; r < from.rows(); ++r) {
              std::vector<T> row(from.cols());
              std::vector<T> p(from.cols());
              for (std::size_t c = 0; c < from.cols(); ++c) {
                const auto at = [&](const auto& view) {
                  return view.data()[static_cast<std::ptrdiff_t>(r) * view.row_stride() +
                                     static_cast<std::ptrdiff_t>(c) * view.col_stride()];
                };
                row[c] = at(from);
                p[c] = at(to);
              }
              expect_same_bits(found, probabilities<Arch>(row, options).data(), p.data(), "matrix between guards", row,
                               options);
            }
          };
          const xs::matrix_view<const T> dense(in.data(), rows, cols);
          const xs::matrix_view<T> target(out.data(), rows, cols);
          check(dense, target);
          check(dense.transposed(), target.transposed());
          // Every second element: the last one touches the guard.
          const std::size_t half = (n + 1) / 2;
          check(xs::matrix_view<const T>(in.data(), 1, half, 0, 2), xs::matrix_view<T>(out.data(), 1, half, 0, 2));
          // Backwards: the first row and element lie last.
          check(xs::matrix_view<const T>(in.data() + n - 1, rows, cols, -static_cast<std::ptrdiff_t>(cols), -1),
                xs::matrix_view<T>(out.data() + n - 1, rows, cols, -static_cast<std::ptrdiff_t>(cols), -1));
        }
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: offsets beyond 2^31 elements", "[softmax][memory][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // Address space only: a few pages are ever touched.
  constexpr std::ptrdiff_t far = (std::ptrdiff_t{1} << 31) + 4096;
  constexpr std::size_t rows = 3;
  constexpr std::size_t cols = 20;
  const std::size_t bytes = (static_cast<std::size_t>(far) * (rows - 1) + 8192) * sizeof(T);
  void* const mapped =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) {
    WARN("no address space for this test");
    return;
  }
  T* const data = static_cast<T*>(mapped);
  findings found;
  for (const xs::softmax_algorithm algorithm : algorithms) {
    const xs::softmax_options options{.algorithm = algorithm};
    std::vector<std::vector<T>> z;
    for (std::size_t r = 0; r < rows; ++r) {
      z.push_back(make_row<T>(row_kind::normal, cols, 94 + r));
      std::copy(z[r].begin(), z[r].end(), data + static_cast<std::ptrdiff_t>(r) * far);
    }
    T* const out = data + 100; // other columns of the same matrix
    xs::softmax<Arch>(xs::matrix_view<const T>(data, rows, cols, far), xs::matrix_view<T>(out, rows, cols, far),
                      options);
    for (std::size_t r = 0; r < rows; ++r) {
      expect_same_bits(found, probabilities<Arch>(z[r], options).data(), out + static_cast<std::ptrdiff_t>(r) * far,
                       "far row " + std::to_string(r), z[r], options);
    }
    // The same distance between the elements of a row.
    const std::vector<T> column = {data[0], data[far], data[2 * far]};
    std::vector<T> p(rows);
    xs::softmax<Arch>(xs::vector_view<const T>(data, rows, far), xs::vector_view<T>(out, rows, far), options);
    for (std::size_t r = 0; r < rows; ++r) {
      p[r] = out[static_cast<std::ptrdiff_t>(r) * far];
    }
    expect_same_bits(found, probabilities<Arch>(column, options).data(), p.data(), "far elements", column, options);
  }
  ::munmap(mapped, bytes);
  XSOFTMAX_CHECK_FINDINGS(found);
}

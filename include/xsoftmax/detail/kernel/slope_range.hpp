// SPDX-License-Identifier: MIT
// The least and the greatest slope of a row, in one pass that the memory bounds: two comparisons a batch, and a
// multiply-add on the other ports that tells whether all is a number, since 0 x is 0 or NaN.
#pragma once

#include <xsoftmax/detail/kernel/access.hpp>
#include <xsoftmax/detail/kernel/row.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

template <class T>
struct slope_range {
  T least = infinity<T>;
  T greatest = -infinity<T>;
  T largest = -infinity<T>; ///< logit, where there are any
  bool valid = true;        ///< finite slopes, logits below +inf

  XSOFTMAX_INLINE bool empty() const { return !(least <= greatest); }

  XSOFTMAX_INLINE void join(const slope_range& other) {
    least = other.least < least ? other.least : least;
    greatest = other.greatest > greatest ? other.greatest : greatest;
    largest = other.largest > largest ? other.largest : largest;
    valid = valid && other.valid;
  }
};

/// Bytes ahead of a row that lies in memory: its chunks take so little time that what the processor fetches by itself
/// is not enough, least of all from one row to the next.
inline constexpr std::size_t slopes_ahead = std::size_t{10} << 10;

/// Of n slopes, and with HasLogits of those whose logit is not -inf; what lies so many bytes ahead is fetched.
template <class A, class T, bool HasLogits, std::size_t Ahead, class Logits, class Slopes>
XSOFTMAX_STEP slope_range<T> range_of(Logits z, Slopes a, std::size_t n) {
  using N = native<A>;
  using V = batch<A, T>;
  constexpr std::size_t chains = wide_chunk<A, T> / lanes<A, T>;
  const auto all = [](T value) XSOFTMAX_STEP_LAMBDA {
    return make_pack<chains>([=](auto) XSOFTMAX_STEP_LAMBDA { return V(value); });
  };
  const V zero(T{});
  auto least = all(infinity<T>);
  auto greatest = all(-infinity<T>);
  auto largest = all(-infinity<T>);
  auto doubt = all(T{});
  for_each_chunk<wide_chunk<A, T>, lanes<A, T>>(0, n, [&](std::size_t i, auto extent) XSOFTMAX_STEP_LAMBDA {
    if constexpr (Ahead != 0) {
      fetch_chunk<decltype(extent)::padded>(a, i, Ahead);
      if constexpr (HasLogits) {
        fetch_chunk<decltype(extent)::padded>(z, i, Ahead);
      }
    }
    const auto slopes = load_chunk<A, T>(a, i, extent, a.get(i));
    const auto logits = [&]() XSOFTMAX_STEP_LAMBDA {
      if constexpr (HasLogits) {
        return load_chunk<A, T>(z, i, extent, -infinity<T>);
      } else {
        return slopes;
      }
    }();
    unroll<decltype(slopes)::size>([&](auto b) XSOFTMAX_STEP_LAMBDA {
      constexpr std::size_t at = decltype(b)::value;
      V low = slopes.v[at];
      V high = slopes.v[at];
      V counted = slopes.v[at];
      if constexpr (HasLogits) {
        const V masked(-infinity<T>);
        const V x = logits.v[at];
        low = N::where_equal(x, masked, V(infinity<T>), low);
        high = N::where_equal(x, masked, masked, high);
        counted = N::zero_where_equal(x, masked, counted);
        const V logit = N::zero_where_equal(x, masked, x);
        largest.v[at] = N::max_dropping_nan(x, largest.v[at]);
        doubt.v[at] = N::multiply_add(logit, zero, doubt.v[at]);
      }
      least.v[at] = N::min_keeping_nan(least.v[at], low); // a NaN among the slopes is in `doubt`
      greatest.v[at] = N::max_dropping_nan(high, greatest.v[at]);
      doubt.v[at] = N::multiply_add(counted, zero, doubt.v[at]);
    });
  });
  unroll<chains - 1>([&](auto c) XSOFTMAX_STEP_LAMBDA {
    constexpr std::size_t at = decltype(c)::value + 1;
    least.v[0] = N::min_keeping_nan(least.v[0], least.v[at]);
    greatest.v[0] = N::max_dropping_nan(greatest.v[at], greatest.v[0]);
    largest.v[0] = N::max_dropping_nan(largest.v[at], largest.v[0]);
    doubt.v[0] = doubt.v[0] + doubt.v[at];
  });
  return {-N::largest_lane(negated(least.v[0])), N::largest_lane(greatest.v[0]), N::largest_lane(largest.v[0]),
          !N::any_nan(doubt.v[0])};
}

/// Of a row of either access.
template <class A, class T, bool HasLogits, std::size_t Ahead = 0, class Row>
XSOFTMAX_STEP slope_range<T> range_of_row(Row z, Row a, std::size_t n) {
  slope_range<T> range;
  for_each_piece<T>(a, 0, n, [&](std::size_t first, std::size_t last) XSOFTMAX_STEP_LAMBDA {
    typename Row::buffer z_room;
    typename Row::buffer a_room;
    const auto slopes = a.template block<A>(first, last, a_room);
    if constexpr (HasLogits) {
      range.join(range_of<A, T, true, Ahead>(z.template block<A>(first, last, z_room), slopes, last - first));
    } else {
      range.join(range_of<A, T, false, Ahead>(slopes, slopes, last - first));
    }
  });
  return range;
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

// SPDX-License-Identifier: MIT
// Logits with Gumbel noise added, and the largest of them.
#pragma once

#include <xsoftmax/detail/kernel/noise.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// A value and where it stands.
template <class T>
struct placed {
  T value;
  std::size_t place;

  /// Does it come after the other? The larger comes first, of equal ones the lower place.
  XSOFTMAX_INLINE bool after(const placed& other) const {
    return value < other.value || (value == other.value && place > other.place);
  }
};

/// The largest values seen and where they stand: as many as there is room for, in a heap whose root comes last of them.
/// Elements are seen in the order of their places. -inf is never among them; where a NaN or +inf was seen there are
/// none.
template <class A, class T>
class largest_elements {
public:
  XSOFTMAX_STEP largest_elements(placed<T>* room, std::size_t capacity) : heap_(room), capacity_(capacity) {}

  /// Only such as come after this one.
  XSOFTMAX_STEP void only_after(const placed<T>& limit) { limit_ = limit; }

  /// What a value must exceed.
  XSOFTMAX_STEP T floor() const { return count_ < capacity_ ? -__builtin_inff() : heap_[0].value; }

  XSOFTMAX_STEP std::size_t count() const { return irregular_ ? 0 : count_; }

  XSOFTMAX_STEP void found_irregular() { irregular_ = true; }

  /// Was a NaN or +inf seen?
  XSOFTMAX_STEP bool irregular() const { return irregular_; }

  /// The elements of x, which begin at place `first`.
  XSOFTMAX_STEP void look_at(const T* x, std::size_t count, std::size_t first) {
    std::size_t i = 0;
    for (; count - i >= lanes<A, T>; i += lanes<A, T>) {
      look_at(native<A>::template load<T>(x + i), first + i);
    }
    one_by_one(x + i, count - i, first + i);
  }

  /// Those of one batch.
  XSOFTMAX_STEP void look_at(batch<A, T> x, std::size_t first) {
    if (native<A>::any_less(batch<A, T>(floor()), x) || !native<A>::all_below(x, __builtin_inff())) [[unlikely]] {
      alignas(64) T lane[lanes<A, T>];
      native<A>::template store<T>(lane, x);
      one_by_one(lane, lanes<A, T>, first);
    }
  }

  /// Puts them in their order.
  XSOFTMAX_STEP void sort() {
    for (std::size_t last = count_; last > 1;) {
      --last;
      const placed<T> root = heap_[0];
      sink(heap_[last], last);
      heap_[last] = root;
    }
  }

private:
  __attribute__((noinline)) XSOFTMAX_FLATTEN void one_by_one(const T* x, std::size_t count, std::size_t first) {
    for (std::size_t i = 0; i < count; ++i) {
      irregular_ = irregular_ || !(x[i] < __builtin_inff());
      const placed<T> element{x[i], first + i};
      if (x[i] > floor() && element.after(limit_)) {
        insert(element);
      }
    }
  }

  XSOFTMAX_STEP void insert(const placed<T>& element) {
    if (count_ == capacity_) {
      sink(element, count_);
      return;
    }
    std::size_t hole = count_++;
    for (; hole != 0 && element.after(heap_[(hole - 1) / 2]); hole = (hole - 1) / 2) {
      heap_[hole] = heap_[(hole - 1) / 2];
    }
    heap_[hole] = element;
  }

  /// The element in the place of the root of a heap of n.
  XSOFTMAX_STEP void sink(placed<T> element, std::size_t n) {
    std::size_t hole = 0;
    for (std::size_t child = 1; child < n; child = 2 * hole + 1) {
      if (child + 1 < n && heap_[child + 1].after(heap_[child])) {
        ++child;
      }
      if (!heap_[child].after(element)) {
        break;
      }
      heap_[hole] = heap_[child];
      hole = child;
    }
    heap_[hole] = element;
  }

  placed<T>* heap_;
  std::size_t capacity_;
  std::size_t count_ = 0;
  placed<T> limit_{__builtin_inff(), 0};
  bool irregular_ = false;
};

/// The first of them alone.
template <class A, class T>
class largest_element : public largest_elements<A, T> {
public:
  XSOFTMAX_STEP largest_element() : largest_elements<A, T>(&element_, 1) {}

  largest_element(const largest_element&) = delete;
  largest_element& operator=(const largest_element&) = delete;

  XSOFTMAX_STEP std::size_t place() const { return result().place; }

  /// Where there is none: -inf, or NaN where a NaN or +inf was seen, at npos.
  XSOFTMAX_STEP placed<T> result() const {
    if (this->count() != 0) {
      return element_;
    }
    return {this->irregular() ? static_cast<T>(__builtin_nanf("")) : -__builtin_inff(), npos};
  }

private:
  placed<T> element_;
};

/// y_i = z_i + g_i for i in [first, last), at x and y; `largest` sees them.
template <class A, class T>
__attribute__((noinline)) XSOFTMAX_FLATTEN void perturb(row_noise<A, T, noise_kind::gumbel>& noise, std::uint64_t index,
                                                        const T* x, T* y, std::size_t first, std::size_t last,
                                                        largest_element<A, T>& largest) {
  using V = batch<A, T>;
  for_each_groups<A>(index + first, last - first,
                     [&](std::uint64_t group, std::size_t from, std::size_t to, std::size_t skipped,
                         auto groups) XSOFTMAX_STEP_LAMBDA {
                       constexpr std::size_t n = decltype(groups)::value;
                       alignas(64) T value[n * noise_group];
                       noise.template draw<n>(group, to < last - first, value);
                       if (to - from == n * noise_group) {
                         for (std::size_t i = 0; i < n * noise_group; i += lanes<A, T>) {
                           native<A>::template store<T>(y + from + i, native<A>::template load<T>(x + from + i) +
                                                                          V(native<A>::template load<T>(value + i)));
                         }
                       } else {
                         for (std::size_t i = from; i < to; ++i) {
                           y[i] = x[i] + value[skipped + i - from];
                         }
                       }
                       largest.look_at(y + from, to - from, first + from);
                     });
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

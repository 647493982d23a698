// SPDX-License-Identifier: MIT
// What attention reads and writes: heads of a batch of sequences, and the small arrays that its options refer to.
#pragma once

#include <concepts>
#include <cstddef>
#include <type_traits>
#include <xsoftmax/view.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// batch x heads x length x depth elements of type T: element (b, h, i, c) lies at data + b * batch_stride + h *
/// head_stride + i * length_stride + c * depth_stride. Strides count elements, may be negative or 0, and default to
/// those of an array [batch, heads, length, depth] without padding.
template <class T>
class attention_view {
public:
  using element_type = T;

  template <std::integral Batch, std::integral Heads, std::integral Length, std::integral Depth>
  constexpr attention_view(T* data, Batch batch, Heads heads, Length length, Depth depth)
      : data_(data), batch_(detail::checked_extent("attention_view", "batch", batch)),
        heads_(detail::checked_extent("attention_view", "heads", heads)),
        length_(detail::checked_extent("attention_view", "length", length)),
        depth_(detail::checked_extent("attention_view", "depth", depth)),
        length_stride_(static_cast<std::ptrdiff_t>(depth_)),
        head_stride_(static_cast<std::ptrdiff_t>(length_ * depth_)),
        batch_stride_(static_cast<std::ptrdiff_t>(heads_ * length_ * depth_)) {}

  template <std::integral Batch, std::integral Heads, std::integral Length, std::integral Depth>
  constexpr attention_view(T* data, Batch batch, Heads heads, Length length, Depth depth, std::ptrdiff_t batch_stride,
                           std::ptrdiff_t head_stride, std::ptrdiff_t length_stride, std::ptrdiff_t depth_stride = 1)
      : attention_view(data, batch, heads, length, depth) {
    batch_stride_ = batch_stride;
    head_stride_ = head_stride;
    length_stride_ = length_stride;
    depth_stride_ = depth_stride;
  }

  /// An array [batch, length, heads, depth] without padding.
  template <std::integral Batch, std::integral Length, std::integral Heads, std::integral Depth>
  static constexpr attention_view from_blhd(T* data, Batch batch, Length length, Heads heads, Depth depth) {
    attention_view v(data, batch, heads, length, depth);
    v.length_stride_ = static_cast<std::ptrdiff_t>(v.heads_ * v.depth_);
    v.head_stride_ = static_cast<std::ptrdiff_t>(v.depth_);
    return v;
  }

  /// One head: each row of the matrix is a position.
  constexpr attention_view(const matrix_view<T>& head)
      : data_(head.data()), batch_(1), heads_(1), length_(head.rows()), depth_(head.cols()),
        depth_stride_(head.col_stride()), length_stride_(head.row_stride()), head_stride_(0), batch_stride_(0) {}

  /// A view of mutable elements reads as a view of constant ones.
  template <class Mutable>
  requires std::is_same_v<const Mutable, T>
  constexpr attention_view(const attention_view<Mutable>& other) noexcept
      : data_(other.data()), batch_(other.batch()), heads_(other.heads()), length_(other.length()),
        depth_(other.depth()), depth_stride_(other.depth_stride()), length_stride_(other.length_stride()),
        head_stride_(other.head_stride()), batch_stride_(other.batch_stride()) {}

  constexpr T* data() const noexcept { return data_; }

  constexpr std::size_t batch() const noexcept { return batch_; }

  constexpr std::size_t heads() const noexcept { return heads_; }

  constexpr std::size_t length() const noexcept { return length_; }

  constexpr std::size_t depth() const noexcept { return depth_; }

  constexpr std::ptrdiff_t batch_stride() const noexcept { return batch_stride_; }

  constexpr std::ptrdiff_t head_stride() const noexcept { return head_stride_; }

  constexpr std::ptrdiff_t length_stride() const noexcept { return length_stride_; }

  constexpr std::ptrdiff_t depth_stride() const noexcept { return depth_stride_; }

  /// Positions [first, first + count) of every head: the filled part of a KV cache, say.
  template <std::integral First, std::integral Count>
  constexpr attention_view positions(First first, Count count) const {
    attention_view v = *this;
    const std::size_t from = detail::checked_extent("attention_view::positions", "first", first);
    v.length_ = detail::checked_extent("attention_view::positions", "count", count);
    if (from > length_ || v.length_ > length_ - from) {
      detail::raise_mismatch("attention_view::positions", "the positions lie outside the view", "first + count",
                             from + v.length_, "length", length_);
      v.length_ = 0;
      return v;
    }
    v.data_ += static_cast<std::ptrdiff_t>(from) * length_stride_;
    return v;
  }

private:
  T* data_;
  std::size_t batch_;
  std::size_t heads_;
  std::size_t length_;
  std::size_t depth_;
  std::ptrdiff_t depth_stride_ = 1;
  std::ptrdiff_t length_stride_;
  std::ptrdiff_t head_stride_;
  std::ptrdiff_t batch_stride_;
};

namespace detail {

template <class X>
inline constexpr bool is_attention_view = false;
template <class T>
inline constexpr bool is_attention_view<attention_view<T>> = true;

/// What attention takes for q, k, v and their gradients: an attention_view, or one head as a matrix.
template <class X>
concept attention_argument = is_attention_view<std::remove_cvref_t<X>> || viewable<std::remove_reference_t<X>>;

template <class X>
constexpr auto as_attention(X&& x) {
  if constexpr (is_attention_view<std::remove_cvref_t<X>>) {
    return x;
  } else {
    return attention_view(as_matrix(as_view(x)));
  }
}

template <class X>
using attention_element = typename decltype(as_attention(std::declval<X&>()))::element_type;

} // namespace detail

/// What the elements of an option's array are.
enum class number_kind : unsigned char { none, boolean, float32, float64, float16, bfloat16 };

namespace detail {

template <class T>
consteval number_kind kind_of() {
  if constexpr (std::is_same_v<T, bool>) {
    return number_kind::boolean;
  } else if constexpr (std::is_same_v<T, float>) {
    return number_kind::float32;
  } else if constexpr (std::is_same_v<T, double>) {
    return number_kind::float64;
  } else {
    static_assert(has_storage_format<T>, "xsoftmax: an option's numbers must be bool, float, double or a half type");
    return storage_traits<T>::format == storage_format::float16 ? number_kind::float16 : number_kind::bfloat16;
  }
}

/// Numbers of any kind, at up to four strides.
struct option_numbers {
  const void* data = nullptr;
  number_kind kind = number_kind::none;
  std::size_t extent[4] = {};
  std::ptrdiff_t stride[4] = {};
};

} // namespace detail

/// Numbers that an option refers to, of float, double or a half type, whatever the queries are: one row, or a matrix
/// with a row for each entry of the batch. They must live until the call returns.
class number_view {
public:
  constexpr number_view() = default;

  template <class X>
  requires detail::viewable<const X>
  constexpr number_view(const X& x) {
    const auto m = detail::as_matrix(as_view(x));
    numbers_.data = m.data();
    numbers_.kind = detail::kind_of<std::remove_const_t<typename decltype(as_view(x))::element_type>>();
    numbers_.extent[0] = m.rows();
    numbers_.extent[1] = m.cols();
    numbers_.stride[0] = m.row_stride();
    numbers_.stride[1] = m.col_stride();
  }

  constexpr bool empty() const noexcept { return numbers_.kind == number_kind::none; }

  constexpr const detail::option_numbers& numbers() const noexcept { return numbers_; }

private:
  detail::option_numbers numbers_;
};

/// Counts that an option refers to, of any integral type; negative ones count as 0. They must live until the call
/// returns.
class count_view {
public:
  constexpr count_view() = default;

  template <class X>
  requires(detail::contiguous_range<const X>&& std::integral<detail::value_of<const X>>) constexpr count_view(
      const X& x) {
    const auto row = as_view(x);
    using Integer = std::remove_const_t<typename decltype(row)::element_type>;
    data_ = row.data();
    size_ = row.size();
    bytes_ = sizeof(Integer);
    is_signed_ = std::is_signed_v<Integer>;
    given_ = true;
  }

  constexpr bool empty() const noexcept { return !given_; }

  constexpr std::size_t size() const noexcept { return size_; }

  constexpr const void* data() const noexcept { return data_; }

  /// Of one count.
  constexpr std::size_t bytes() const noexcept { return bytes_; }

  constexpr bool is_signed() const noexcept { return is_signed_; }

private:
  const void* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t bytes_ = 0;
  bool is_signed_ = false;
  bool given_ = false;
};

/// Which keys a query sees, from an attention_view [batch, heads, q_len, kv_len] or, the same for all, a matrix [q_len,
/// kv_len]: bool, true where it sees; or numbers that are added to the scores, -inf where it does not. An extent of 1
/// and a stride of 0 stand for the same everywhere. The elements must live until the call returns.
class attention_mask {
public:
  constexpr attention_mask() = default;

  template <class T>
  constexpr attention_mask(const attention_view<T>& m) {
    numbers_.data = m.data();
    numbers_.kind = detail::kind_of<std::remove_const_t<T>>();
    const std::size_t extent[4] = {m.batch(), m.heads(), m.length(), m.depth()};
    const std::ptrdiff_t stride[4] = {m.batch_stride(), m.head_stride(), m.length_stride(), m.depth_stride()};
    for (int i = 0; i < 4; ++i) {
      numbers_.extent[i] = extent[i];
      numbers_.stride[i] = extent[i] == 1 ? 0 : stride[i];
    }
  }

  template <class X>
  requires detail::viewable<const X>
  constexpr attention_mask(const X& x) : attention_mask(attention_view(detail::as_matrix(as_view(x)))) {}

  constexpr bool empty() const noexcept { return numbers_.kind == number_kind::none; }

  constexpr const detail::option_numbers& numbers() const noexcept { return numbers_; }

private:
  detail::option_numbers numbers_;
};

/// Numbers in three dimensions that attention writes, or with Void = const void reads: an attention_view of depth 1, or
/// a matrix, or a row. Float or double, as attention computes.
template <class Void>
class number_array {
  template <class T>
  static constexpr bool allowed =
      std::is_same_v<std::remove_const_t<T>, float> || std::is_same_v<std::remove_const_t<T>, double>;
  template <class T>
  static constexpr bool writable = std::is_const_v<Void> || !std::is_const_v<T>;

public:
  constexpr number_array() = default;

  template <class T>
  requires(allowed<T>&& writable<T>) constexpr number_array(const attention_view<T>& m)
      : data_(m.data()),
        kind_(detail::kind_of<std::remove_const_t<T>>()), extent_{m.batch(), m.heads(), m.length(), m.depth()},
        stride_{m.batch_stride(), m.head_stride(), m.length_stride()} {}

  template <class X>
  requires(detail::viewable<std::remove_reference_t<X>> &&
           (std::is_const_v<Void> || std::is_lvalue_reference_v<X> ||
            detail::refers_to_elements<X>())) constexpr number_array(X&& x) {
    const auto m = detail::as_matrix(as_view(x));
    using T = typename decltype(detail::as_matrix(as_view(x)))::element_type;
    static_assert(allowed<T>, "xsoftmax: these numbers are float or double");
    static_assert(writable<T>, "xsoftmax: the output's elements are const");
    data_ = m.data();
    kind_ = detail::kind_of<std::remove_const_t<T>>();
    extent_[0] = 1;
    extent_[1] = m.rows();
    extent_[2] = m.cols();
    extent_[3] = 1;
    stride_[1] = m.row_stride();
    stride_[2] = m.col_stride();
  }

  constexpr bool empty() const noexcept { return kind_ == number_kind::none; }

  constexpr Void* data() const noexcept { return data_; }

  constexpr number_kind kind() const noexcept { return kind_; }

  /// batch, heads, length, and what must be 1
  constexpr std::size_t extent(int i) const noexcept { return extent_[i]; }

  constexpr std::ptrdiff_t stride(int i) const noexcept { return stride_[i]; }

private:
  Void* data_ = nullptr;
  number_kind kind_ = number_kind::none;
  std::size_t extent_[4] = {};
  std::ptrdiff_t stride_[3] = {};
};

/// A number for each query that attention writes: an attention_view [batch, heads, q_len, 1], or for one entry of the
/// batch a matrix [heads, q_len], or for one head a row.
using query_output = number_array<void>;

/// The same that the backward reads.
using query_input = number_array<const void>;

/// A number for each key or each head that the backward writes: a matrix, or a row.
using gradient_output = number_array<void>;

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

// SPDX-License-Identifier: MIT
// Rows whose elements lie a stride apart while their neighbours lie side by side: the columns of a row-major matrix. A
// batch holds one element each of neighbouring rows, and a strip of many batches goes down the rows together: every
// load and store is a vector, nothing is moved to other lanes. Each row keeps its own L virtual lanes, so its sum is
// the same tree as that of a row laid out side by side.
//
//   strip   rows side by side, long enough for the processor's own prefetching
//   chunk   a few batches of them, whose parameters stay in registers during
//   visit   a few elements of each row
#pragma once

#include <xsoftmax/detail/kernel/row.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// The most rows of a strip. More would look pages up less often, but what is known of all rows must lie on the stack.
template <class T>
inline constexpr std::size_t strip_rows = 256;

/// Rows that are worked on together.
template <class A, class T>
inline constexpr std::size_t strip_chunk = 2 * lanes<A, T>;

/// Elements of each row in a visit: as many lines of as many pages are read in turn, and where the stride is a power of
/// two, all of them fall into the same few places of a cache. A walk goes through up to three matrices at once.
inline constexpr std::size_t sum_visit = 8;
inline constexpr std::size_t walk_visit = 4;

/// What is done at a time: elements first, first + step, ... of a chunk of rows, which begins with row r of the strip;
/// and how far off, in elements of each row and in rows, is what comes some time later. 0 and 0: nothing does.
struct strip_visit {
  std::size_t first;
  std::size_t step;
  std::size_t r;
  std::size_t ahead;
  std::ptrdiff_t rows_ahead;
};

/// Elements i, i + step, ... of the rows from r on, before those from `next` on have their turn. Ahead are the same
/// elements of rows further on; at the end of the strip, those of the next visit.
template <class T>
XSOFTMAX_INLINE strip_visit visit_before(std::size_t i, std::size_t step, std::size_t r, std::size_t rows,
                                         std::size_t next) {
  constexpr std::size_t distance = 512 / sizeof(T);
  const std::size_t rows_ahead = distance < rows ? distance : rows;
  if (r + rows_ahead < rows) {
    return {i, step, r, 0, static_cast<std::ptrdiff_t>(rows_ahead)};
  }
  if (next == i) {
    return {i, step, r, 0, 0};
  }
  return {i, step, r, next - i, static_cast<std::ptrdiff_t>(rows_ahead - rows)};
}

/// So many rows fill batches.
template <class A, class T>
XSOFTMAX_STEP std::size_t whole_batches(std::size_t rows) {
  return (rows + lanes<A, T> - 1) / lanes<A, T> * lanes<A, T>;
}

/// body(row, extent) over the rows of a strip.
template <class A, class T, class Body>
XSOFTMAX_STEP void for_each_strip_chunk(std::size_t rows, Body&& body) {
  for_each_chunk<strip_chunk<A, T>, lanes<A, T>>(0, rows, body);
}

/// The elements of a visit in one matrix, one after the other.
template <class A, class T, class Row>
class strip_cursor {
public:
  /// Everything in elements of the matrix.
  XSOFTMAX_STEP strip_cursor(Row first, std::ptrdiff_t step, std::ptrdiff_t ahead)
      : row_(first), step_(bytes_of(first) * step), ahead_(bytes_of(first) * ahead) {}

  /// Asks memory for what comes later. Where that is nothing, for what is at hand: a branch costs more.
  template <bool Write = false>
  XSOFTMAX_STEP void prefetch() const {
    const std::intptr_t line = address() + ahead_;
    for (std::intptr_t b = 0; b < static_cast<std::intptr_t>(strip_chunk<A, T> * sizeof(T)); b += 64) {
      __builtin_prefetch(reinterpret_cast<const void*>(line + b), Write, 3);
    }
  }

  template <class Extent>
  XSOFTMAX_STEP auto load(Extent extent, T fill) const {
    return load_chunk<A, T>(row_, 0, extent, fill);
  }

  template <bool Stream, class Extent, class Pack>
  XSOFTMAX_STEP void store(Extent extent, const Pack& y) const {
    store_chunk<A, Stream, T>(row_, 0, extent, y);
  }

  /// In integers: after the last element there may be no place to point to.
  XSOFTMAX_STEP void next() { row_.data = reinterpret_cast<decltype(row_.data)>(address() + step_); }

  /// All of it for a matrix that is only read.
  template <class Extent>
  XSOFTMAX_STEP auto read(Extent extent, T fill) {
    prefetch();
    const auto x = load(extent, fill);
    next();
    return x;
  }

  /// The same for one that is written.
  template <class Extent, class Pack>
  XSOFTMAX_STEP void write(Extent extent, const Pack& y) {
    prefetch<true>();
    store<false>(extent, y);
    next();
  }

private:
  static XSOFTMAX_STEP std::intptr_t bytes_of(Row row) { return static_cast<std::intptr_t>(row.element_bytes()); }

  XSOFTMAX_STEP std::intptr_t address() const { return reinterpret_cast<std::intptr_t>(row_.data); }

  Row row_;
  std::intptr_t step_;
  std::intptr_t ahead_;
};

/// One matrix of a task: where the rows of a strip begin, and how to reach their other elements.
template <class Row>
struct strip_matrix {
  Row front;
  std::ptrdiff_t stride;
  bool prefetches; ///< is it too large for a second-level cache?

  /// Elements i of all rows.
  XSOFTMAX_INLINE Row at(std::size_t i) const { return front.from(static_cast<std::ptrdiff_t>(i) * stride); }

  template <class A, class T>
  XSOFTMAX_STEP strip_cursor<A, T, Row> over(const strip_visit& visit) const {
    const std::ptrdiff_t ahead = static_cast<std::ptrdiff_t>(visit.ahead) * stride + visit.rows_ahead;
    return {at(visit.first).from(static_cast<std::ptrdiff_t>(visit.r)),
            static_cast<std::ptrdiff_t>(visit.step) * stride, prefetches ? ahead : 0};
  }
};

template <class T, class Row, class Void>
XSOFTMAX_INLINE strip_matrix<Row> matrix_of(Row front, const elements<Void>& m, std::size_t rows, std::size_t cols) {
  return {front, m.col_stride, rows * cols * sizeof(T) > cached_bytes};
}

/// The sums of one block of each row of a strip. A visit holds elements of one lane, and the next visit those of the
/// next lane, so that memory is read in order, in as many places as a visit has elements. (One lane after the other
/// would need fewer partial sums, and read elements that are far apart, often in one place of a cache.)
template <class A, class T>
class column_sum {
public:
  /// Sums the elements [first, last), at most a block, of `rows` rows. body(visit, extent, add) calls add(element)
  /// once, and each call of element() gives the next of the visit's elements.
  template <class Body>
  XSOFTMAX_STEP void sum(std::size_t first, std::size_t last, std::size_t rows, Body&& body) {
    sum_while(first, last, rows, body, []() XSOFTMAX_STEP_LAMBDA { return true; });
  }

  /// The same as long as serves(), which is asked after visits to all lanes; false if it ended so.
  template <class Body, class Serves>
  XSOFTMAX_STEP bool sum_while(std::size_t first, std::size_t last, std::size_t rows, Body&& body, Serves&& serves) {
    constexpr std::size_t step = sum_visit * L;
    std::size_t front = first; // of the next visit of each lane
    do {                       // once at least: a lane without elements is 0
      const std::size_t end = last - front > step ? front + step : last;
      for (std::size_t lane = 0; lane < L; ++lane) {
        const std::size_t i = front + lane;
        const std::size_t next = lane + 1 < L ? i + 1 : end;
        for_each_strip_chunk<A, T>(rows, [&](std::size_t r, auto extent) XSOFTMAX_STEP_LAMBDA {
          lane_pack<decltype(extent)::padded> lanes;
          if (front != first) {
            load(lanes, lane, r);
          }
          if (i < end) { // of a lane without elements there may be no place to point to
            body(visit_before<T>(i, L, r, rows, next < last ? next : i), extent,
                 [&](auto&& element) XSOFTMAX_STEP_LAMBDA {
                   for (std::size_t j = i; j < end; j += 2 * L) {
                     add_two(lanes, j + L < end, element);
                   }
                 });
          }
          store(lanes, lane, r);
        });
      }
      if (!serves()) {
        return false;
      }
      front = end;
    } while (front < last);
    add_lanes_of(rows);
    return true;
  }

  /// The sums of the rows from r on, as many as a batch of doubles has lanes.
  XSOFTMAX_STEP row_totals<batch<A, double>> totals(std::size_t r) const {
    lane_pack<lanes<A, double>> lane;
    load(lane, 0, r);
    return lane.v[0].totals();
  }

  /// The sum of row r.
  XSOFTMAX_STEP double_pair total(std::size_t r) const {
    if constexpr (parts == 2) {
      return add_lanes<native<A>>(part_[0][0][r], part_[0][1][r]);
    } else {
      return {part_[0][0][r], 0.0};
    }
  }

private:
  using Lane = lane_batch<A, T>;
  static constexpr std::size_t L = virtual_lanes<T>;
  static constexpr std::size_t parts = Lane::parts;

  /// One lane of some rows.
  template <std::size_t Rows>
  using lane_pack = pack<Lane, Rows / lanes<A, double>>;

  /// The trees, into the first lane.
  XSOFTMAX_STEP void add_lanes_of(std::size_t rows) {
    for (std::size_t r = 0; r < rows; r += lanes<A, double>) {
      store(lane_pack<lanes<A, double>>{{lanes_from<0, 1>(r)}}, 0, r);
    }
  }

  /// Every `Step`th lane from `First` on: the branch of the tree that adds them.
  template <std::size_t First, std::size_t Step>
  XSOFTMAX_STEP Lane lanes_from(std::size_t r) const {
    if constexpr (Step == L) {
      lane_pack<lanes<A, double>> lane;
      load(lane, First, r);
      return lane.v[0];
    } else {
      Lane sum = lanes_from<First, 2 * Step>(r);
      sum.merge(lanes_from<First + Step, 2 * Step>(r));
      return sum;
    }
  }

  /// An element of a lane enters it, and its neighbour, if there is one.
  template <class Lanes, class Element>
  static XSOFTMAX_STEP void add_two(Lanes& lanes, bool has_neighbour, Element&& element) {
    const auto e = element();
    using Batch = std::remove_cvref_t<decltype(e.v[0])>;
    if constexpr (enters_in_pairs<A, Batch>) {
      auto neighbour = map([](const Batch& x) XSOFTMAX_STEP_LAMBDA { return absent_neighbour<A>(x); }, e);
      if (has_neighbour) {
        neighbour = element();
      }
      unroll<decltype(e)::size>([&](auto b) XSOFTMAX_STEP_LAMBDA {
        const auto both = neighbours<A>(e.v[decltype(b)::value], neighbour.v[decltype(b)::value]);
        lanes.v[2 * decltype(b)::value].add(both.v[0]);
        lanes.v[2 * decltype(b)::value + 1].add(both.v[1]);
      });
    } else {
      add(lanes, e);
      if (has_neighbour) {
        add(lanes, element());
      }
    }
  }

  template <class E, std::size_t N>
  static XSOFTMAX_STEP void add(pack<Lane, N>& lanes, const pack<E, N>& e) {
    unroll<N>([&](auto b) XSOFTMAX_STEP_LAMBDA { lanes.v[decltype(b)::value].add(e.v[decltype(b)::value]); });
  }

  template <class Lanes>
  XSOFTMAX_STEP void load(Lanes& x, std::size_t lane, std::size_t r) const {
    unroll<Lanes::size>([&](auto b) XSOFTMAX_STEP_LAMBDA {
      constexpr std::size_t at = decltype(b)::value * lanes<A, double>;
      x.v[decltype(b)::value].load([&](std::size_t part) XSOFTMAX_STEP_LAMBDA { return part_[lane][part] + r + at; });
    });
  }

  template <class Lanes>
  XSOFTMAX_STEP void store(const Lanes& x, std::size_t lane, std::size_t r) {
    unroll<Lanes::size>([&](auto b) XSOFTMAX_STEP_LAMBDA {
      constexpr std::size_t at = decltype(b)::value * lanes<A, double>;
      x.v[decltype(b)::value].store([&](std::size_t part) XSOFTMAX_STEP_LAMBDA { return part_[lane][part] + r + at; });
    });
  }

  alignas(64) double part_[L][parts][strip_rows<T>];
};

/// What a walk asks memory for while it sees to an element: this many elements ahead.
inline constexpr std::size_t walk_ahead = walk_visit;

/// body(visit, extent, each) over the rows of a strip, visit by visit of the elements [first, last): it calls each(f),
/// and each call of f() sees to the next of the visit's elements.
template <class A, class T, std::size_t Visit = walk_visit, class Body>
XSOFTMAX_STEP void walk_strip(std::size_t first, std::size_t last, std::size_t rows, Body&& body) {
  for (std::size_t i = first; i < last; i += Visit) {
    const std::size_t end = last - i < Visit ? last : i + Visit;
    for_each_strip_chunk<A, T>(rows, [&](std::size_t r, auto extent) XSOFTMAX_STEP_LAMBDA {
      body(strip_visit{i, 1, r, end < last ? walk_ahead : 0, 0}, extent, [&](auto&& f) XSOFTMAX_STEP_LAMBDA {
        for (std::size_t j = i; j < end; ++j) {
          f();
        }
      });
    });
  }
}

/// The largest of the elements [first, last) of each row of a strip, NaN passed over, in m.
template <class A, class T, class In>
XSOFTMAX_STEP void column_maxima(T* m, const strip_matrix<In>& z, std::size_t first, std::size_t last,
                                 std::size_t rows) {
  const std::size_t end = whole_batches<A, T>(rows);
  for (std::size_t r = 0; r < end; ++r) {
    m[r] = -infinity<T>;
  }
  walk_strip<A, T>(first, last, rows, [&](const strip_visit& visit, auto extent, auto&& each) XSOFTMAX_STEP_LAMBDA {
    const contiguous_row<T> largest{m + visit.r};
    constexpr full_chunk<decltype(extent)::padded> all;
    auto x = load_chunk<A, T>(largest, 0, all, T{});
    auto z_i = z.template over<A, T>(visit);
    each([&]() XSOFTMAX_STEP_LAMBDA {
      x = map([](batch<A, T> v, batch<A, T> so_far)
                  XSOFTMAX_STEP_LAMBDA { return native<A>::max_dropping_nan(v, so_far); },
              z_i.read(extent, -infinity<T>), x);
    });
    store_chunk<A, false, T>(largest, 0, all, x);
  });
}

/// Batches of T for `Rows` rows from r on, from what is known of each row of a strip.
template <class A, std::size_t Rows, class T>
XSOFTMAX_STEP auto known(const T* of_row, std::size_t r) {
  return load_chunk<A, T>(contiguous_row<const T>{of_row + r}, 0, full_chunk<Rows>{}, T{});
}

/// Do the rows of all matrices lie side by side, element by element?
template <class... Void>
XSOFTMAX_INLINE bool are_columns(std::size_t rows, const elements<Void>&... m) {
  return rows > 1 && ((m.row_stride == 1) && ...);
}

/// Rows of T from number `first` on, side by side: their first elements.
template <class T, class Void>
XSOFTMAX_INLINE auto columns_of(const elements<Void>& m, std::size_t first) {
  using Element = std::conditional_t<std::is_const_v<Void>, const T, T>;
  return contiguous_row<Element>{static_cast<Element*>(m.data) + first};
}

/// The same of any format.
template <class Void>
XSOFTMAX_INLINE formatted_row<Void> formatted_columns_of(const elements<Void>& m, std::size_t first) {
  return formatted_row<Void>{m.data, m.format}.from(static_cast<std::ptrdiff_t>(first));
}

/// Rows of a strip of a matrix. Where the matrix stays in a cache, as many as the second-level one holds for two walks
/// over two matrices, if they are enough side by side to be worth it.
template <class T>
XSOFTMAX_INLINE std::size_t strip_width(std::size_t rows, std::size_t cols) {
  constexpr std::size_t narrowest = 256 / sizeof(T);
  constexpr std::size_t held = (std::size_t{512} << 10) / (2 * sizeof(T)); // of either matrix
  const std::size_t width = held / (cols | 1) / narrowest * narrowest;
  const bool is_narrow = width >= narrowest && width < strip_rows<T> && rows * cols * sizeof(T) < stream_bytes;
  return is_narrow ? width : strip_rows<T>;
}

/// Strip by strip: run(first, rows, columns...), columns being the strip's in each matrix; where it returns false,
/// run_row(r) for each of its rows.
template <class T, class Run, class Row, class... Void>
XSOFTMAX_STEP void for_each_strip(std::size_t rows, std::size_t cols, Run&& run, Row&& run_row,
                                  const elements<Void>&... m) {
  const std::size_t width = strip_width<T>(rows, cols);
  for (std::size_t first = 0; first < rows; first += width) {
    const std::size_t count = rows - first < width ? rows - first : width;
    bool done;
    if constexpr (sizeof(T) == sizeof(float)) {
      done = ((m.format == storage_format::native) && ...) ? run(first, count, columns_of<T>(m, first)...)
                                                           : run(first, count, formatted_columns_of(m, first)...);
    } else {
      done = run(first, count, columns_of<T>(m, first)...);
    }
    if (!done) {
      for (std::size_t r = first; r < first + count; ++r) {
        run_row(r);
      }
    }
  }
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

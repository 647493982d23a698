// SPDX-License-Identifier: MIT
#include "logits_file.hpp"
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace bench {

namespace {

constexpr char magic[] = "\x93NUMPY";
constexpr std::size_t magic_size = 6;

struct shape {
  std::size_t rows;
  std::size_t cols;
  std::size_t element_bytes;
  std::size_t header_bytes;
};

[[noreturn]] void refuse(const std::string& path, const std::string& why) {
  throw std::runtime_error(path + ": " + why);
}

// The text after "'key':" in the header, which is a Python dictionary in one line.
std::string entry(const std::string& path, const std::string& header, const std::string& key) {
  const std::size_t at = header.find("'" + key + "'");
  const std::size_t colon = at == std::string::npos ? at : header.find(':', at);
  const std::size_t begin = colon == std::string::npos ? colon : header.find_first_not_of(" ", colon + 1);
  if (begin == std::string::npos) {
    refuse(path, "not a valid .npy file: its header has no '" + key + "'");
  }
  return header.substr(begin);
}

std::vector<std::size_t> dimensions(const std::string& path, const std::string& text) {
  const std::size_t end = text.find(')');
  if (text.empty() || text[0] != '(' || end == std::string::npos) {
    refuse(path, "not a valid .npy file: its shape is no tuple");
  }
  std::vector<std::size_t> extents;
  std::size_t i = 1;
  while (i < end) {
    if (text[i] >= '0' && text[i] <= '9') {
      std::size_t used = 0;
      extents.push_back(std::stoull(text.substr(i, end - i), &used));
      i += used;
    } else if (text[i] == ',' || text[i] == ' ') {
      ++i;
    } else {
      refuse(path, "not a valid .npy file: its shape is " + text.substr(0, end + 1));
    }
  }
  return extents;
}

shape npy_shape(const std::string& path, std::ifstream& file) {
  unsigned char prefix[12] = {};
  file.read(reinterpret_cast<char*>(prefix), sizeof prefix);
  const unsigned version = prefix[magic_size];
  if (!file || version < 1 || version > 3) {
    refuse(path, "a .npy file of an unknown version (1, 2 and 3 are known)");
  }
  const std::size_t length_bytes = version == 1 ? 2 : 4;
  std::size_t length = 0;
  for (std::size_t i = 0; i < length_bytes; ++i) {
    length |= static_cast<std::size_t>(prefix[magic_size + 2 + i]) << (8 * i);
  }
  const std::size_t start = magic_size + 2 + length_bytes;
  if (length > (1u << 20)) {
    refuse(path, "not a valid .npy file: its header claims " + std::to_string(length) + " bytes");
  }
  std::string header(length, '\0');
  file.seekg(static_cast<std::streamoff>(start));
  file.read(header.data(), static_cast<std::streamsize>(length));
  if (!file) {
    refuse(path, "not a valid .npy file: it ends within its header");
  }
  const std::string type = entry(path, header, "descr");
  std::size_t element_bytes = 0;
  if (type.rfind("'<f4'", 0) == 0) {
    element_bytes = 4;
  } else if (type.rfind("'<f8'", 0) == 0) {
    element_bytes = 8;
  } else {
    refuse(path, "element type " + type.substr(0, type.find(',')) +
                     "; little-endian float32 ('<f4') or float64 ('<f8') is needed");
  }
  const std::vector<std::size_t> extents = dimensions(path, entry(path, header, "shape"));
  if (extents.empty() || extents.size() > 2) {
    refuse(path, std::to_string(extents.size()) + " dimensions; one or two are needed");
  }
  if (extents.size() == 2 && entry(path, header, "fortran_order").rfind("False", 0) != 0) {
    refuse(path, "Fortran order; C order is needed (numpy.ascontiguousarray)");
  }
  const std::size_t rows = extents.size() == 2 ? extents[0] : 1;
  const std::size_t cols = extents.back();
  return {rows, cols, element_bytes, start + length};
}

template <class T>
std::vector<T> read_values(const std::string& path, std::ifstream& file, const shape& is) {
  std::vector<T> values(is.rows * is.cols);
  file.seekg(static_cast<std::streamoff>(is.header_bytes));
  file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(T)));
  if (!file) {
    refuse(path, "cannot be read");
  }
  // Rows whose softmax is NaN have nothing to compare.
  for (std::size_t r = 0; r < is.rows; ++r) {
    bool only_masked = true;
    for (std::size_t c = 0; c < is.cols; ++c) {
      const T x = values[r * is.cols + c];
      if (std::isnan(x) || (std::isinf(x) && x > 0)) {
        refuse(path, "row " + std::to_string(r) + ", element " + std::to_string(c) + " is " +
                         (std::isnan(x) ? "NaN" : "+inf") + ": its row has no softmax");
      }
      only_masked = only_masked && std::isinf(x);
    }
    if (only_masked) {
      refuse(path, "row " + std::to_string(r) + " holds nothing but -inf: it has no softmax");
    }
  }
  return values;
}

} // namespace

logits read_logits(const std::string& path) {
  std::error_code problem;
  if (!std::filesystem::is_regular_file(path, problem)) {
    refuse(path, "no such file");
  }
  const auto bytes = static_cast<std::size_t>(std::filesystem::file_size(path));
  std::ifstream file(path, std::ios::binary);
  char start[magic_size] = {};
  file.read(start, sizeof start);
  shape is{1, bytes / 4, 4, 0};
  if (file && std::memcmp(start, magic, magic_size) == 0) {
    file.clear();
    file.seekg(0);
    is = npy_shape(path, file);
  } else if (bytes % 4 != 0) {
    refuse(path, "neither a .npy file nor raw float32: " + std::to_string(bytes) + " bytes are no multiple of 4");
  }
  file.clear();
  constexpr std::size_t limit = std::size_t{1} << 28;
  if (is.rows == 0 || is.cols == 0) {
    refuse(path, "holds no logits");
  }
  if (is.cols > limit || is.rows > limit / is.cols) {
    refuse(path, std::to_string(is.rows) + " x " + std::to_string(is.cols) + " logits; this suite takes at most 2^28");
  }
  const std::size_t wanted = is.header_bytes + is.rows * is.cols * is.element_bytes;
  if (bytes != wanted) {
    refuse(path, std::to_string(bytes) + " bytes, but its header promises " + std::to_string(wanted));
  }
  if (is.element_bytes == 8) {
    return {is.rows, is.cols, read_values<double>(path, file, is)};
  }
  return {is.rows, is.cols, read_values<float>(path, file, is)};
}

} // namespace bench

// SPDX-License-Identifier: MIT
// expect: the types of the arguments have different lengths
// flags:
#include <xsoftmax/eigen.hpp>
#include <xsoftmax/softmax.hpp>

void f(const Eigen::Vector4f& z) {
#ifdef CORRECTED
  Eigen::Vector4f p;
#else
  Eigen::Vector3f p;
#endif
  xsoftmax::softmax(z, p);
}

// SPDX-License-Identifier: MIT
// expect: the output's elements are const
// flags:
#include <xsoftmax/eigen.hpp>
#include <xsoftmax/softmax.hpp>

void f(const Eigen::MatrixXf& z, Eigen::MatrixXf& p) {
#ifdef CORRECTED
  xsoftmax::softmax(z + p, p);
#else
  xsoftmax::softmax(z, p + p);
#endif
}

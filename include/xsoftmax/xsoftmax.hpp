// SPDX-License-Identifier: MIT
// Everything but the adapters (eigen.hpp).
#pragma once

#include <xsoftmax/arch.hpp>
#include <xsoftmax/attention.hpp>
#include <xsoftmax/convergence_radius.hpp>
#include <xsoftmax/cross_entropy.hpp>
#include <xsoftmax/gumbel.hpp>
#include <xsoftmax/half.hpp>
#include <xsoftmax/softmax.hpp>
#include <xsoftmax/stablemax.hpp>
#include <xsoftmax/version.hpp>
#include <xsoftmax/view.hpp>

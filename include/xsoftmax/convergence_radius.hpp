// SPDX-License-Identifier: MIT
// How far a step may go before the Taylor series of the loss along it diverges: bound, tight bound, exact; and a
// controller that keeps steps below that.
#pragma once

#include <xsoftmax/convergence_radius/bound.hpp>
#include <xsoftmax/convergence_radius/exact.hpp>
#include <xsoftmax/convergence_radius/limited_step.hpp>
#include <xsoftmax/convergence_radius/slopes.hpp>
#include <xsoftmax/convergence_radius/tight_bound.hpp>

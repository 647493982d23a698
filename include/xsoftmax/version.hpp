// SPDX-License-Identifier: MIT
// The one place that holds the version: CMake reads these three lines, and the inline namespace carries them into every
// symbol, so that objects built against two releases never share one.
#pragma once

#define XSOFTMAX_VERSION_MAJOR 0
#define XSOFTMAX_VERSION_MINOR 1
#define XSOFTMAX_VERSION_PATCH 0

#define XSOFTMAX_ABI_NAMESPACE v0_1_0

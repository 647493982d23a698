// SPDX-License-Identifier: MIT
// Google Benchmark's own JSON, collected over many runs of its runner into one file.
#pragma once

#include <benchmark/benchmark.h>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace bench {

/// The suite interleaves all variants of one length and goes from length to length, so it runs Google Benchmark once
/// per length; this reporter writes the context once and all results into one array.
class json_log : public benchmark::JSONReporter {
public:
  explicit json_log(const std::string& path) : file_(path) {
    if (!file_) {
      throw std::runtime_error(path + ": cannot be written");
    }
    SetOutputStream(&file_);
  }

  bool ReportContext(const Context& context) override {
    if (!begun_) {
      begun_ = benchmark::JSONReporter::ReportContext(context);
    }
    return begun_;
  }

  void ReportRuns(const std::vector<Run>& runs) override {
    benchmark::JSONReporter::ReportRuns(runs);
    file_.flush();
  }

  void Finalize() override {} // the array stays open until close()

  void close() {
    benchmark::JSONReporter::Finalize();
    file_.close();
    if (!file_) {
      throw std::runtime_error("the results could not be written: is the disk full?");
    }
  }

private:
  std::ofstream file_;
  bool begun_ = false;
};

} // namespace bench

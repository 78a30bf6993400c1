// digits: classifies a held-out set of handwritten digits on a served model, batch by batch through
// shared memory, and says how many it got right.
//
//   shmctl serve loader/models/digits &
//   digits --data loader/models/digits
#include <algorithm>
#include <cstdio>
#include <string>

#include "CLI/CLI.hpp"

#include "tools/examples/digits/heldout.h"

int main(int argc, char** argv) {
  CLI::App app(
      "Classifies handwritten digits on a served model.\n"
      "Example: digits --data loader/models/digits");
  std::string server = "digits";
  std::string run_directory;
  std::string data;
  int64_t batch = 16;
  double at_least = 0;
  app.add_option("--server", server, "name of the server")->capture_default_str();
  app.add_option("--run-directory", run_directory, "where servers are found");
  app.add_option("--data", data, "folder with heldout_pixels.npy and heldout_labels.npy")
      ->required();
  app.add_option("--batch", batch, "images a request")->check(CLI::Range(1, 4096));
  app.add_option("--at-least", at_least, "fail below this accuracy")->check(CLI::Range(0.0, 1.0));
  CLI11_PARSE(app, argc, argv);

  const auto heldout = baton::examples::ReadHeldout(data);
  if (!heldout.ok()) {
    std::fprintf(stderr, "digits: %s\n", heldout.status().ToString().c_str());
    return 1;
  }
  auto front = baton::Front::Attach(server, {.run_directory = run_directory});
  if (!front.ok()) {
    std::fprintf(stderr, "digits: %s\n", front.status().ToString().c_str());
    return 1;
  }
  const auto score = baton::examples::Classify(**front, *heldout, batch);
  if (!score.ok()) {
    std::fprintf(stderr, "digits: %s\n", score.status().ToString().c_str());
    return 1;
  }
  std::printf("digits: accuracy %.4f (%zu of %zu held-out images right), generation %llu\n",
              score->accuracy(), score->right, score->images,
              static_cast<unsigned long long>(score->generation));
  return score->accuracy() >= at_least ? 0 : 1;
}

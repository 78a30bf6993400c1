// baton-ocr: reads text in a picture, asked of served PP-OCRv4 models.
//
//   shmctl serve BUILD/models/ppocr_det &
//   shmctl serve BUILD/models/ppocr_rec &
//   baton-ocr --keys BUILD/models/ppocr_rec/ppocr_keys.txt --text "Hello world"
#include <cstdio>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include <CLI/CLI.hpp>

#include "tools/examples/ocr/picture.h"
#include "tools/examples/ocr/text_reader.h"
#include "tools/examples/served_infer.h"

namespace baton::examples {
namespace {

struct Arguments {
  // A map of 960 x 960 probabilities takes 3.6 MiB, and a line of 158 steps of 6625 classes 4 MiB.
  // Longer lines are rare, and are asked for again.
  ServedModel detector = {.name = "ppocr_det", .response_bytes = 4 << 20};
  ServedModel recogniser = {.name = "ppocr_rec", .response_bytes = 4 << 20};
  std::string run_directory;
  std::string keys;
  std::string picture;
  std::vector<std::string> text;
  std::string save;
};

absl::StatusOr<bool> Read(const Arguments& arguments, const Picture& picture) {
  auto detect = ServedInfer(arguments.detector);
  if (!detect.ok()) return detect.status();
  auto recognise = ServedInfer(arguments.recogniser);
  if (!recognise.ok()) return recognise.status();
  auto charset = LoadCharset(arguments.keys);
  if (!charset.ok()) return charset.status();
  auto page = ReadPage(picture, *detect, *recognise, *charset);
  if (!page.ok()) return page.status();
  std::vector<std::string> read;
  for (const PageLine& line : *page) {
    std::printf("[%d,%d %dx%d] %s (%.3f)\n", line.box.left, line.box.top, line.box.width(),
                line.box.height(), line.read.text.c_str(), line.read.confidence);
    read.push_back(line.read.text);
  }
  if (page->empty()) std::printf("no text\n");
  return arguments.text.empty() || read == arguments.text;
}

absl::Status Main(const Arguments& arguments) {
  auto picture = arguments.picture.empty() ? DrawText(arguments.text) : ReadPng(arguments.picture);
  if (!picture.ok()) return picture.status();
  if (!arguments.save.empty()) {
    if (absl::Status saved = WritePng(*picture, arguments.save); !saved.ok()) return saved;
  }
  auto same = Read(arguments, *picture);
  if (!same.ok()) return same.status();
  return *same ? absl::OkStatus() : absl::InternalError("what was read is not what was drawn");
}

}  // namespace
}  // namespace baton::examples

int main(int argc, char** argv) {
  baton::examples::Arguments arguments;
  CLI::App app("Reads the text in a picture with served PP-OCRv4 models.");
  auto* source = app.add_option_group("source")->require_option(1);
  source->add_option("--picture", arguments.picture, "A PNG file to read");
  source->add_option("--text", arguments.text,
                     "Lines to draw and read; fails if they are read wrongly");
  app.add_option("--keys", arguments.keys, "The recognition model's ppocr_keys.txt")->required();
  app.add_option("--detector", arguments.detector.name, "Name of its server")
      ->capture_default_str();
  app.add_option("--recogniser", arguments.recogniser.name, "Name of its server")
      ->capture_default_str();
  app.add_option("--run-directory", arguments.run_directory, "Where servers are looked up");
  app.add_option("--save", arguments.save, "Write the picture to this PNG file");
  CLI11_PARSE(app, argc, argv);
  arguments.detector.front.run_directory = arguments.run_directory;
  arguments.recogniser.front.run_directory = arguments.run_directory;
  const absl::Status status = baton::examples::Main(arguments);
  if (!status.ok()) std::fprintf(stderr, "baton-ocr: %s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}

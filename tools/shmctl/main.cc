// shmctl: serves models, and asks, reloads, measures and stops those that are served.
#include "tools/shmctl/command_line.h"

int main(int argc, char** argv) {
  return static_cast<int>(baton::shmctl::CommandLine().Run(argc, argv));
}

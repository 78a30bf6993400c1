// Where servers are found: one private directory a user, one folder a server.
//
//   $XDG_RUNTIME_DIR/baton/        0700, ours, no symbolic link
//     <name>/                      0700
//       lock                       locked as long as the server lives; holds its pid
//       control.sock               0600
//       receipts.jsonl             stays when the server goes
//
// Thread safety: a RunDirectory may be used by any thread (its functions are
// const and keep nothing); a ServerFolder belongs to one thread at a time.
//
// Invariants
// 1. A server exists exactly as long as somebody holds its folder's lock. The
//    kernel lets go of the lock when its holder dies, however it dies, so
//    nothing that is left behind is ever taken for a server.
// 2. Only the holder of the lock makes or removes control.sock.
// 3. Looking takes no lock: it cannot make a server's start fail.
#ifndef BATON_IPC_RUN_DIRECTORY_H_
#define BATON_IPC_RUN_DIRECTORY_H_

#include <sys/types.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "ipc/unique_fd.h"

namespace baton::ipc {

inline constexpr size_t kMaxServerNameBytes = 64;

// INVALID_ARGUMENT unless `name` is 1 to 64 of A-Z a-z 0-9 . _ - and starts
// with no dot.
absl::Status CheckServerName(std::string_view name);

// A running server, as its folder shows it.
struct ServerEntry {
  std::string name;
  pid_t pid = 0;  // to be printed; 0 when it has not written it yet
  std::string folder;
  std::string control_socket;
};

// A server's own folder, and the lock that makes it its own.
class ServerFolder {
 public:
  ServerFolder() = default;
  ServerFolder(ServerFolder&&) = default;
  ServerFolder& operator=(ServerFolder&& other) noexcept;
  // Removes control.sock, then lets go of the lock. Receipts stay.
  ~ServerFolder();

  const std::string& name() const { return name_; }
  const std::string& path() const { return path_; }
  std::string control_socket() const { return path_ + "/control.sock"; }
  std::string receipts() const { return path_ + "/receipts.jsonl"; }

  // Waits until nothing is left of the server that had this folder before: its
  // workers die with it, but a killed one takes as long as the kernel needs to
  // take its memory back, and until then there would be two of them (A21). Each
  // of them holds life_fd(), and so does what it forked. What still runs after
  // `grace` is killed; UNAVAILABLE, naming it, when it does not end within
  // `patience` then. Blocks. Once, before life_fd().
  absl::Status AwaitPredecessor(absl::Duration grace, absl::Duration patience);
  // For this server's workers to hold for as long as they live; -1 before
  // AwaitPredecessor.
  int life_fd() const { return life_.get(); }

 private:
  friend class RunDirectory;

  void Leave();

  std::string name_;
  std::string path_;
  UniqueFd lock_;
  UniqueFd life_;
};

class RunDirectory {
 public:
  // $XDG_RUNTIME_DIR/baton, or /tmp/baton-<uid> where that is not set. Makes it
  // when it is not there. FAILED_PRECONDITION, saying what to do, when what is
  // there is a symbolic link, another user's, or open to others.
  static absl::StatusOr<RunDirectory> Open();
  // The same for a path of one's own; its parent must exist.
  static absl::StatusOr<RunDirectory> OpenAt(std::string path);

  const std::string& path() const { return path_; }

  // Makes `name` this process's. ALREADY_EXISTS, naming the process, when it is
  // being served; INVALID_ARGUMENT for a bad name and for one that makes the
  // socket's path too long. What a killed server left there is taken over.
  absl::StatusOr<ServerFolder> Claim(std::string_view name) const;

  // Those that run now, by name.
  absl::StatusOr<std::vector<ServerEntry>> ListServers() const;
  // NOT_FOUND, with the names of those that run, when `name` does not.
  absl::StatusOr<ServerEntry> FindServer(std::string_view name) const;
  // Where the folder of `name` is or would be, whether it runs or not.
  absl::StatusOr<std::string> FolderOf(std::string_view name) const;

 private:
  RunDirectory(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}

  std::string path_;
  UniqueFd fd_;
};

}  // namespace baton::ipc

#endif  // BATON_IPC_RUN_DIRECTORY_H_

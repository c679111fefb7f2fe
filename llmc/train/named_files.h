// named_files.h: what lies under a name that an option gives: a folder, a file, a model, or something that is none of them.
#pragma once
#include <sys/stat.h>
#include <unistd.h>
#include <cerrno>
#include <string>
#include "../io/files.h"
#include "../model/bin_model.h"
#include "../model/config_json.h"

namespace run_detail {
inline bool is_folder(const std::string& path) {
    struct stat info;
    return stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}
inline bool is_file(const std::string& path) {
    if (access(path.c_str(), R_OK) == 0) return true;
    CHECK(errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG || errno == EACCES || errno == ELOOP, "%s", errno_text(path).c_str());
    return false;
}
// What is there, or would be, instead of a file; empty: nothing is, or a file. A link counts as what it leads to.
inline std::string kind_of_no_file(const std::string& path) {
    struct stat s;
    if (path.ends_with("/")) return "folder";
    if (stat(path.c_str(), &s) != 0 || S_ISREG(s.st_mode)) return "";
    return kind_of(s);
}
inline Config config_of_files(const std::string& model) { return is_bin_model(model) ? BinModel(model).config : config_from_json(model + "/config.json"); }
}  // namespace run_detail

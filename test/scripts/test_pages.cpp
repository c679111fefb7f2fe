// test_pages.cpp: what doc/llama3.md quotes of the sources is in the sources (make check-learn compares it with the file that it names, too), and links of all pages lead somewhere.
#include <unistd.h>
#include <sstream>
#include <string>
#include <vector>
#include "../../llmc/io/files.h"
#include "../test.h"

namespace {
std::string sources() {
    std::string all = read_file("train_gpt2.cu");
    for (const std::string& room : list_folder("llmc")) {
        if (room.find('.') != room.npos) continue;
        for (const std::string& file : list_folder("llmc/" + room)) all += read_file("llmc/" + room + "/" + file);
    }
    return all;
}
std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) lines.push_back(line);
    return lines;
}
}  // namespace

TEST(code_in_pages_is_in_the_sources) {
    const std::string all = sources();
    bool in_code = false;
    int shown = 0;
    for (const std::string& line : lines_of(read_file("doc/llama3.md"))) {
        if (line.starts_with("```")) in_code = line.starts_with("```cpp from ");
        else if (in_code) {
            shown++;
            if (all.find(line + "\n") == all.npos) FAIL("doc/llama3.md shows a line that no source has: %s", line.c_str());
        }
    }
    EXPECT(shown >= 10);
}

TEST(links_in_pages_lead_somewhere) {
    std::vector<std::string> pages = {"README.md", "CONTRIBUTING.md", "SECURITY.md", "test/emu/README.md", "dev/reference/README.md", "dev/lab/README.md"};
    for (const std::string& page : list_folder("doc")) if (page.ends_with(".md")) pages.push_back("doc/" + page);
    int links = 0;
    for (const std::string& page : pages) {
        const std::string text = read_file(page);
        for (size_t at = text.find("]("); at != text.npos; at = text.find("](", at + 2)) {
            const size_t end = text.find_first_of(")\n", at);
            std::string link = text.substr(at + 2, end - at - 2);
            link = link.substr(0, link.find('#'));
            if (link.empty() || link.find("://") != link.npos || end == text.npos || text[end] != ')') continue;
            const std::string path = page.find('/') == page.npos ? link : page.substr(0, page.rfind('/') + 1) + link;
            if (access(path.c_str(), F_OK)) FAIL("%s: the link %s leads nowhere", page.c_str(), link.c_str());
            links++;
        }
    }
    EXPECT(links > 100);
}

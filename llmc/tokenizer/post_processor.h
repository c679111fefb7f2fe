// post_processor.h: what tokenizer.json's post-processor puts in front of a text, as Llama 3's does <|begin_of_text|>.
#pragma once
#include <string>
#include <vector>
#include "../io/json.h"

namespace post_processor_detail {
constexpr int MOST = 1 << 24;  // ids are compared with the vocabulary when it is there
// Template: {"SpecialToken": {"id": NAME}} ..., {"Sequence": {"id": "A"}}, and special_tokens says the ids of NAME.
inline std::vector<int> front_of_template(const Json& json, const std::string& where) {
    std::vector<int> front;
    for (const Json& piece : json.at("single", where).as_array(where)) {
        const Json* special = piece.find("SpecialToken");
        if (!special) break;  // the text; what comes behind it is of no use to a text that goes on
        const Json& token = json.at("special_tokens", where).at(special->at("id", where).as_string(where), where);
        for (const Json& id : token.at("ids", where).as_array(where)) front.push_back((int)id.as_int(where, 0, MOST));
    }
    return front;
}
}  // namespace post_processor_detail

inline std::vector<int> read_post_processor(const Json& json, const std::string& where) {
    if (json.type == Json::NUL) return {};
    const std::string type = json.at("type", where).as_string(where);
    if (type == "ByteLevel") return {};  // moves offsets
    if (type == "TemplateProcessing") return post_processor_detail::front_of_template(json, where);
    if (type == "RobertaProcessing" || type == "BertProcessing") {
        const JsonItems& cls = json.at("cls", where).as_array(where);
        CHECK(cls.size() == 2, "%s: post_processor: cls is not a token and its id", where.c_str());
        return {(int)cls.begin()[1].as_int(where, 0, post_processor_detail::MOST)};
    }
    if (type != "Sequence") die("%s: the post-processor is %s, only TemplateProcessing, ByteLevel, Roberta's, Bert's and Sequences of them are supported", where.c_str(), json_shown(type).c_str());
    std::vector<int> front;
    for (const Json& part : json.at("processors", where).as_array(where)) {  // each works on what the one before it made
        const std::vector<int> before = read_post_processor(part, where);
        front.insert(front.begin(), before.begin(), before.end());
    }
    return front;
}

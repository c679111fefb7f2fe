// SHA-256 and HMAC against the examples of FIPS 180-4 and RFC 4231.
#include "../../llmc/base/sha256.h"
#include "../test.h"

TEST(sha256_of_the_standards_examples) {
    EXPECT_STR(hex_of(sha256("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_STR(hex_of(sha256("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_STR(hex_of(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    EXPECT_STR(hex_of(sha256("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu")),
               "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
    EXPECT_STR(hex_of(sha256(std::string(1000000, 'a'))), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// Every length around the borders of a block, in one piece and byte by byte; the digests are hashed in turn, coreutils' sha256sum made the sum.
TEST(sha256_of_every_length) {
    std::string digests;
    for (size_t n = 0; n <= 200; n++) {
        const std::string text(n, 'x');
        Sha256 pieces;
        for (char c : text) pieces.update({&c, 1});
        const std::string whole = sha256(text);
        EXPECT(pieces.digest() == whole);
        digests += hex_of(whole) + "\n";
    }
    EXPECT_STR(hex_of(sha256(digests)), "bf2cc1b01aa900478cd8155b8049d13830232dafa102b64de95956ea149e17af");
}

TEST(hmac_sha256_of_rfc_4231) {
    const std::string all_bytes = [] { std::string s; for (int i = 1; i <= 25; i++) s += (char)i; return s; }();
    EXPECT_STR(hex_of(hmac_sha256(std::string(20, 0x0b), "Hi There")), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    EXPECT_STR(hex_of(hmac_sha256("Jefe", "what do ya want for nothing?")), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    EXPECT_STR(hex_of(hmac_sha256(std::string(20, (char)0xaa), std::string(50, (char)0xdd))), "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
    EXPECT_STR(hex_of(hmac_sha256(all_bytes, std::string(50, (char)0xcd))), "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
    EXPECT_STR(hex_of(hmac_sha256(std::string(20, 0x0c), "Test With Truncation")).substr(0, 32), "a3b6167473100ee06e0c796c2955552b");
    EXPECT_STR(hex_of(hmac_sha256(std::string(131, (char)0xaa), "Test Using Larger Than Block-Size Key - Hash Key First")),
               "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    EXPECT_STR(hex_of(hmac_sha256(std::string(131, (char)0xaa), "This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm.")),
               "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
}

TEST(comparison_in_constant_time) {
    EXPECT(equal_in_constant_time("", "") && equal_in_constant_time("abc", "abc"));
    EXPECT(!equal_in_constant_time("abc", "abd") && !equal_in_constant_time("abc", "bbc") && !equal_in_constant_time("abc", "ab") && !equal_in_constant_time("", "a"));
}

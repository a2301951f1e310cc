/* Philox 4x32-10 against the known answers of Random123 (kat_vectors), and what is drawn from its words. */
#include "core/philox.h"

#include "tests/test.h"

static const struct {
    uint32_t counter[4], key[2], answer[4];
} known[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

TEST(known_answers)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const uint32_t *c = known[i].counter;
        uint64_t seed = (uint64_t)known[i].key[1] << 32 | known[i].key[0];
        hn_philox4 got = hn_philox(seed, c[0], c[1], c[2], c[3]);
        for (int w = 0; w < 4; w++) CHECK_INT(got.word[w], known[i].answer[w]);
    }
}

TEST(uniform_stays_below_one)
{
    CHECK_NEAR(hn_uniform(0), 0, 0);
    CHECK_NEAR(hn_uniform(0xff), 0, 0);
    CHECK_NEAR(hn_uniform(0x80000000u), 0.5, 0);
    CHECK(hn_uniform(0xffffffffu) < 1);
    CHECK_NEAR(hn_uniform(0xffffffffu), 1 - 0x1p-24, 0);
}

TEST(drop_threshold)
{
    CHECK_INT(hn_drop_threshold(0), 0);
    CHECK_INT(hn_drop_threshold(0.5f), 0x80000000u);
    CHECK_INT(hn_drop_threshold(1), 0xffffffffu);
    CHECK_INT(hn_drop_threshold(0.25f), 0x40000000u);
}

TEST(drops_about_as_many_as_asked)
{
    uint32_t threshold = hn_drop_threshold(0.1f);
    int dropped = 0;
    for (uint32_t block = 0; block < 25000; block++) {
        hn_philox4 four = hn_philox(42, block, HN_SITE(3, HN_SITE_MLP_OUT, 0), 7, 11);
        for (int w = 0; w < 4; w++) dropped += four.word[w] < threshold;
    }
    CHECK_NEAR(dropped / 100000.0, 0.1, 0.004); /* four standard deviations */
}

TEST(sites_differ)
{
    CHECK_INT(HN_SITE(3, HN_SITE_ATTENTION, 5), 0x30205);
    hn_philox4 a = hn_philox(1, 0, HN_SITE(0, HN_SITE_ATTENTION, 1), 0, 0);
    hn_philox4 b = hn_philox(1, 0, HN_SITE(1, HN_SITE_ATTENTION, 0), 0, 0);
    CHECK(a.word[0] != b.word[0]);
}

TEST_MAIN(RUN(known_answers); RUN(uniform_stays_below_one); RUN(drop_threshold);
          RUN(drops_about_as_many_as_asked); RUN(sites_differ))

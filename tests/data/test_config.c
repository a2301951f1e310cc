/* The section `data`: defaults, overrides, named sets, the folder of the cache. */
#include "data/config.h"

#include "core/json.h"
#include "core/mem.h"
#include "data/reader.h"
#include "tests/test.h"

TEST(keys)
{
    hn_data_config config;
    hn_key_table table = {hn_data_keys, hn_data_key_count, &config};
    hn_config *loaded = NULL;
    hn_error error = {0};
    const char *overrides[] = {"data.train=a.jsonl,b.csv", "data.fields.pair=hypothesis",
                               "data.format=csv",          "data.on_bad_row=skip",
                               "data.dev=m=x.tsv,y.tsv",   "data.label_map.e=entailment"};
    CHECK_OK(hn_config_load(&loaded, &table, 1, NULL, NULL, 0, false, &error));
    CHECK_INT(config.train.count, 0);
    CHECK_TEXT(config.text, "text");
    CHECK(!config.pair);
    CHECK_TEXT(config.label, "label");
    CHECK_INT(config.format, HN_FORMAT_AUTO);
    CHECK_INT(config.on_bad_row, 0);
    CHECK_INT(config.max_tokens, 512);
    CHECK_INT(config.label_map.count, 0);
    CHECK_TEXT(config.cache, "auto");
    CHECK(config.shuffle);
    hn_config_free(loaded);
    CHECK_OK(hn_config_load(&loaded, &table, 1, NULL, overrides, 6, false, &error));
    CHECK_INT(config.train.count, 2);
    CHECK_TEXT(config.train.items[1], "b.csv");
    CHECK_TEXT(config.pair, "hypothesis");
    CHECK_INT(config.format, HN_FORMAT_CSV);
    CHECK_INT(config.on_bad_row, 1);
    CHECK_TEXT(config.dev.items[0], "m=x.tsv");
    CHECK_TEXT(config.label_map.keys[0], "e");
    CHECK_TEXT(config.label_map.values[0], "entailment");
    hn_config_free(loaded);
    overrides[0] = "data.max_tokens=3";
    CHECK_INT(hn_config_load(&loaded, &table, 1, NULL, overrides, 1, false, &error), HN_ERR_USAGE);
    CHECK_CONTAINS(error.message, "data.max_tokens");
}

TEST(sets)
{
    const char *items[] = {"matched=a.jsonl", "b.jsonl", "other=c.jsonl", "matched=d.jsonl", "./x=y.jsonl"},
               *empty[] = {"m="};
    hn_list list = {items, 5}, wrong = {empty, 1}, none = {NULL, 0};
    hn_data_sets sets;
    hn_error error = {0};
    CHECK_OK(hn_data_sets_open(&sets, &list, "dev", &error));
    CHECK_INT(sets.count, 3);
    CHECK_TEXT(sets.items[0].name, "matched");
    CHECK_INT(sets.items[0].files.count, 2);
    CHECK_TEXT(sets.items[0].files.items[1], "d.jsonl");
    CHECK_TEXT(sets.items[1].name, "dev");
    CHECK_INT(sets.items[1].files.count, 2);
    CHECK_TEXT(sets.items[1].files.items[1], "./x=y.jsonl");
    CHECK_TEXT(sets.items[2].files.items[0], "c.jsonl");
    hn_data_sets_close(&sets);
    CHECK_INT(hn_data_sets_open(&sets, &wrong, "dev", &error), HN_ERR_USAGE);
    CHECK_CONTAINS(error.message, "expected NAME=FILE, got \"m=\"");
    error = (hn_error){0};
    CHECK_OK(hn_data_sets_open(&sets, &none, "dev", &error));
    CHECK_INT(sets.count, 0);
    hn_data_sets_close(&sets);
    hn_status status = HN_ERR_MEMORY;
    for (size_t nth = 1; status == HN_ERR_MEMORY && nth < 50; nth++) {
        hn_mem_fail_at(nth);
        error = (hn_error){0};
        status = hn_data_sets_open(&sets, &list, "dev", &error);
        hn_mem_fail_at(0);
        CHECK(status || nth > 4);
    }
    CHECK_INT(status, HN_OK);
    hn_data_sets_close(&sets);
}

TEST(cache_folder)
{
    static const struct {
        const char *cache, *output, *folder;
    } cases[] = {{"auto", "run", "run/cache"},
                 {"auto", NULL, NULL},
                 {"off", "run", NULL},
                 {NULL, "run", NULL},
                 {"c", NULL, "c"}};
    for (size_t i = 0; i < 5; i++) {
        hn_data_config config = {.cache = cases[i].cache};
        hn_error error = {0};
        char *folder = NULL;
        CHECK_OK(hn_data_cache_folder(&folder, &config, cases[i].output, &error));
        if (cases[i].folder)
            CHECK_TEXT(folder, cases[i].folder);
        else
            CHECK(!folder);
        hn_free(folder);
    }
}

int main(void)
{
    hn_json_init();
    RUN(keys);
    RUN(sets);
    RUN(cache_folder);
    printf("%d tests, %d failures\n", test_ran, test_failures);
    return test_failures || !test_ran;
}

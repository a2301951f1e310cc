/* The config engine: every type, every error line, overrides, the resolved config, differences, the
 * reference, memory. */
#include "core/config.h"

#include <time.h>
#include <unistd.h>

#include "core/config_internal.h"
#include "core/json.h"
#include "core/mem.h"
#include "tests/test.h"

typedef struct optim_config {
    double lr, clip;
    int schedule;
    int64_t steps, seed;
    bool fused;
} optim_config;

typedef struct data_config {
    hn_list train, dev;
    const char *text, *pair;
    hn_map names;
    hn_interval every;
} data_config;

static optim_config optim;
static data_config data;

static const hn_key optim_keys[] = {
    {"optim", "lr", HN_KEY_FLOAT, .min = 0, .max = 1000, .fallback = "5e-5",
     .offset = offsetof(optim_config, lr), .help = "Peak learning rate", .safe_on_resume = true},
    {"optim", "clip", HN_KEY_FLOAT, .fallback = "1", .offset = offsetof(optim_config, clip),
     .help = "Largest norm"},
    {"optim", "schedule", HN_KEY_CHOICE, .choices = "linear|cosine|constant", .fallback = "\"linear\"",
     .offset = offsetof(optim_config, schedule), .help = "Shape a|b of the learning rate"},
    {"optim", "steps", HN_KEY_INT, .unit = "steps", .min = 1, .max = 100, .fallback = "7",
     .offset = offsetof(optim_config, steps)},
    {"optim", "seed", HN_KEY_INT, .fallback = "-3", .offset = offsetof(optim_config, seed)},
    {"optim", "fused", HN_KEY_BOOL, .fallback = "true", .offset = offsetof(optim_config, fused)},
};
static const hn_key data_keys[] = {
    {"data", "train", HN_KEY_LIST, .offset = offsetof(data_config, train), .help = "Training files"},
    {"data", "dev", HN_KEY_LIST, .fallback = "null", .offset = offsetof(data_config, dev)},
    {"data", "fields.text", HN_KEY_STRING, .fallback = "\"text\"", .offset = offsetof(data_config, text)},
    {"data", "fields.pair", HN_KEY_STRING, .fallback = "null", .offset = offsetof(data_config, pair)},
    {"data", "names", HN_KEY_MAP, .fallback = "{}", .offset = offsetof(data_config, names)},
    {"data", "every", HN_KEY_INTERVAL, .min = 0, .max = 1000, .fallback = "\"0.5 epoch\"",
     .offset = offsetof(data_config, every)},
};
static const hn_key_table tables[] = {{optim_keys, sizeof optim_keys / sizeof *optim_keys, &optim},
                                      {data_keys, sizeof data_keys / sizeof *data_keys, &data}};

static hn_error error;
static hn_config *config;

/* Loads `json` (NULL: no file) as the file "c.json" of a fresh folder that is the current one. */
static hn_status load_with(const char *json, const char *const *overrides, size_t count, bool partial)
{
    hn_config_free(config);
    config = NULL;
    if (json) {
        FILE *file = fopen("c.json", "wb");
        if (!file || fputs(json, file) < 0 || fclose(file)) abort();
    }
    hn_error_reset(&error);
    return hn_config_load(&config, tables, 2, json ? "c.json" : NULL, overrides, count, partial, &error);
}

static hn_status load(const char *json)
{
    return load_with(json, NULL, 0, false);
}

static hn_status load_override(const char *override)
{
    const char *overrides[] = {"data.train=a.jsonl", override};
    return load_with(NULL, overrides, 2, false);
}

TEST(defaults)
{
    CHECK_OK(load("{\"data\": {\"train\": \"a.jsonl\"}}"));
    CHECK_NEAR(optim.lr, 5e-5, 0);
    CHECK_NEAR(optim.clip, 1, 0);
    CHECK_INT(optim.schedule, 0);
    CHECK_INT(optim.steps, 7);
    CHECK(optim.fused);
    CHECK_INT(data.train.count, 1);
    CHECK_TEXT(data.train.items[0], "a.jsonl");
    CHECK_INT(data.dev.count, 0);
    CHECK_TEXT(data.text, "text");
    CHECK(data.pair == NULL);
    CHECK_INT(data.names.count, 0);
    CHECK_INT(data.every.unit, HN_INTERVAL_EPOCHS);
    CHECK_NEAR(data.every.value, 0.5, 0);
}

TEST(every_type_from_a_file)
{
    CHECK_OK(load("{\"optim\": {\"lr\": 1, \"schedule\": \"constant\", \"steps\": 100, \"fused\": false},"
                  " \"data\": {\"train\": [\"a\", \"b\"], \"dev\": [], \"fields\": {\"text\": \"premise\", "
                  "\"pair\": null},"
                  " \"names\": {\"x\": \"y\", \"n\": 3, \"f\": 2.5}, \"every\": \"500 steps\"}}"));
    CHECK_NEAR(optim.lr, 1, 0);
    CHECK_INT(optim.schedule, 2);
    CHECK_INT(optim.steps, 100);
    CHECK(!optim.fused);
    CHECK_INT(data.train.count, 2);
    CHECK_TEXT(data.train.items[1], "b");
    CHECK_TEXT(data.text, "premise");
    CHECK_INT(data.names.count, 3);
    CHECK_TEXT(data.names.keys[0], "x");
    CHECK_TEXT(data.names.values[0], "y");
    CHECK_TEXT(data.names.values[1], "3");
    CHECK_TEXT(data.names.values[2], "2.5");
    CHECK_INT(data.every.unit, HN_INTERVAL_STEPS);
    CHECK_NEAR(data.every.value, 500, 0);
    CHECK_OK(
        load("{\"data.train\": \"a\", \"data\": {\"fields.text\": \"t\"}}")); /* dotted names in a file */
    CHECK_TEXT(data.text, "t");
}

TEST(overrides_win)
{
    const char *overrides[] = {"optim.lr=1e-3",      "optim.lr=2e-3",      "optim.schedule=cosine",
                               "optim.steps=8",      "optim.fused=false",  "data.train=x,y,z",
                               "data.fields.pair=h", "data.every=off",     "data.names.b=2",
                               "data.names.a.b=c=d", "data.dev=[\"p,q\"]", "optim.clip=3"};
    CHECK_OK(load_with("{\"optim\": {\"lr\": 9}, \"data\": {\"train\": [\"a\"], \"names\": {\"a\": 1}}}",
                       overrides, 12, false));
    CHECK_NEAR(optim.lr, 2e-3, 0);
    CHECK_NEAR(optim.clip, 3, 0);
    CHECK_INT(optim.schedule, 1);
    CHECK_INT(optim.steps, 8);
    CHECK(!optim.fused);
    CHECK_INT(data.train.count, 3);
    CHECK_TEXT(data.train.items[2], "z");
    CHECK_INT(data.dev.count, 1);
    CHECK_TEXT(data.dev.items[0], "p,q");
    CHECK_TEXT(data.pair, "h");
    CHECK_INT(data.every.unit, HN_INTERVAL_OFF);
    CHECK_INT(data.names.count, 3);
    CHECK_TEXT(data.names.values[0], "1");
    CHECK_TEXT(data.names.values[1], "2");
    CHECK_TEXT(data.names.keys[2], "a.b");
    CHECK_TEXT(data.names.values[2], "c=d");
    CHECK_OK(load_override("data.names={\"k\": \"v\"}"));
    CHECK_TEXT(data.names.keys[0], "k");
    CHECK_OK(load_override("data.dev=null"));
    CHECK_OK(load_override("data.dev="));
    CHECK_INT(data.dev.count, 0);
}

/* One wrong thing and its whole message. */
static const struct {
    const char *json, *message;
} file_errors[] = {
    {"{\"optim\": {\"lr\": \"fast\"}}",
     "c.json: optim.lr: expected a number from 0 to 1000, got the string \"fast\""},
    {"{\"optim\": {\"lr\": -1}}", "c.json: optim.lr: expected a number from 0 to 1000, got -1"},
    {"{\"optim\": {\"lr\": 1000.5}}", "c.json: optim.lr: expected a number from 0 to 1000, got 1000.5"},
    {"{\"optim\": {\"lr\": null}}", "c.json: optim.lr: expected a number from 0 to 1000, got null"},
    {"{\"optim\": {\"clip\": true}}", "c.json: optim.clip: expected a number, got true"},
    {"{\"optim\": {\"steps\": 8.0}}",
     "c.json: optim.steps: expected an integer from 1 to 100 steps, got 8.0"},
    {"{\"optim\": {\"steps\": 0}}", "c.json: optim.steps: expected an integer from 1 to 100 steps, got 0"},
    {"{\"optim\": {\"seed\": 8.0}}", "c.json: optim.seed: expected an integer, got 8.0"},
    {"{\"optim\": {\"fused\": 1}}", "c.json: optim.fused: expected true or false, got 1"},
    {"{\"optim\": {\"schedule\": \"linar\"}}", "c.json: optim.schedule: expected one of linear, cosine, "
                                               "constant, got the string \"linar\"; the nearest is linear"},
    {"{\"optim\": {\"schedule\": \"const\"}}", "c.json: optim.schedule: expected one of linear, cosine, "
                                               "constant, got the string \"const\"; the nearest is constant"},
    {"{\"optim\": {\"schedule\": 1}}",
     "c.json: optim.schedule: expected one of linear, cosine, constant, got 1"},
    {"{\"optim\": {\"lrr\": 0.5}}",
     "c.json: optim.lrr: unknown key, got 0.5; the nearest is optim.lr, a number from 0 to 1000"},
    {"{\"data\": {\"lr\": 0.5}}",
     "c.json: data.lr: unknown key, got 0.5; the nearest is optim.lr, a number from 0 to 1000"},
    {"{\"lr\": 0.5}", "c.json: lr: unknown key, got 0.5; the nearest is optim.lr, a number from 0 to 1000"},
    {"{\"data\": {\"fields\": {\"txet\": \"a\"}}}", "c.json: data.fields.txet: unknown key, got the string "
                                                    "\"a\"; the nearest is data.fields.text, a string"},
    {"{\"zzzzzzzzzzzzzz\": 1}",
     "c.json: zzzzzzzzzzzzzz: unknown key, got 1; `hone keys` lists what there is"},
    {"{\"\\u001b[31m\": 1}", "c.json: ?[31m: unknown key, got 1; `hone keys` lists what there is"},
    {"{\"optin\": {\"lr\": 1}}", "c.json: optin: unknown section; the nearest is optim"},
    {"{\"optim\": 3}", "c.json: optim: expected an object of keys, got 3"},
    {"{\"data\": {\"fields\": \"text\"}}",
     "c.json: data.fields: expected an object of keys, got the string \"text\""},
    {"{\"optim\": {\"lr\": 1}, \"optim.lr\": 2}", "c.json: optim.lr: given twice"},
    {"{\"data\": {\"dev\": 3}}", "c.json: data.dev: expected a list of strings, or null, got 3"},
    {"{\"data\": {\"dev\": [\"a\", 3]}}",
     "c.json: data.dev: expected a list of strings, or null, got 3 as item 2"},
    {"{\"data\": {\"names\": {\"a\": [1]}}}",
     "c.json: data.names: expected a string or a number for \"a\", got an array"},
    {"{\"data\": {\"names\": \"a\"}}",
     "c.json: data.names: expected an object of strings, got the string \"a\""},
    {"{\"data\": {\"every\": \"5\"}}",
     "c.json: data.every: expected \"N steps\", \"X epoch\" or \"off\" from 0 to 1000, got the string \"5\""},
    {"{\"data\": {\"every\": \"2000 steps\"}}", "c.json: data.every: expected \"N steps\", \"X epoch\" or "
                                                "\"off\" from 0 to 1000, got the string \"2000 steps\""},
};

TEST(each_error_in_a_file)
{
    const char *overrides[] = {"data.train=a"};
    for (size_t i = 0; i < sizeof file_errors / sizeof *file_errors; i++) {
        CHECK_INT(load_with(file_errors[i].json, overrides, 1, false), HN_ERR_USAGE);
        CHECK_TEXT(error.message, file_errors[i].message);
        CHECK(config == NULL);
    }
    const char *intervals[] = {"0.5 steps", "0 steps",  "-1 steps", "inf steps", "nan epoch",
                               "1  steps",  "1 steps ", "steps",    "",          "1e999 epoch",
                               "0x1 steps", "1 step s", "On"};
    for (size_t i = 0; i < sizeof intervals / sizeof *intervals; i++) {
        char json[100];
        snprintf(json, sizeof json, "{\"data\": {\"every\": \"%s\"}}", intervals[i]);
        CHECK_INT(load_with(json, overrides, 1, false), HN_ERR_USAGE);
        CHECK_CONTAINS(error.message, "c.json: data.every: expected \"N steps\"");
    }
}

static const struct {
    const char *override, *message;
} override_errors[] = {
    {"optim.lr", "command line: expected section.name=value, got \"optim.lr\""},
    {"optim.lrr=3", "command line: optim.lrr: unknown key, got the string \"3\"; the nearest is optim.lr, a "
                    "number from 0 to 1000"},
    {"lr=3",
     "command line: lr: unknown key, got the string \"3\"; the nearest is optim.lr, a number from 0 to 1000"},
    {"optim.lr=", "command line: optim.lr: expected a number from 0 to 1000, got the string \"\""},
    {"optim.lr=0x10", "command line: optim.lr: expected a number from 0 to 1000, got the string \"0x10\""},
    {"optim.lr=nan", "command line: optim.lr: expected a number from 0 to 1000, got the string \"nan\""},
    {"optim.lr=1e999", "command line: optim.lr: expected a number from 0 to 1000, got the string \"1e999\""},
    {"optim.steps=8.0", "command line: optim.steps: expected an integer from 1 to 100 steps, got 8.0"},
    {"optim.steps=9223372036854775808", "command line: optim.steps: expected an integer from 1 to 100 steps, "
                                        "got the string \"9223372036854775808\""},
    {"optim.fused=yes", "command line: optim.fused: expected true or false, got the string \"yes\""},
    {"data.train=", "command line: data.train: expected a list of at least one string, got an empty one"},
    {"data.train=[\"a\"", "command line: data.train: expected JSON, got an error at 1:4: ']' expected near "
                          "end of file (the text ends too early)"},
    {"data.train=[1]", "command line: data.train: expected a list of strings, got 1 as item 1"},
    {"data.names=a", "command line: data.names: expected an object of strings, got the string \"a\""},
    {"data.fields.text=\xff", "command line: data.fields.text: expected UTF-8, got other bytes"},
    {"data.names.x=\xff", "command line: data.names: expected UTF-8, got other bytes"},
};

TEST(each_error_on_the_command_line)
{
    for (size_t i = 0; i < sizeof override_errors / sizeof *override_errors; i++) {
        CHECK_INT(load_override(override_errors[i].override), HN_ERR_USAGE);
        CHECK_TEXT(error.message, override_errors[i].message);
    }
}

TEST(all_errors_at_once)
{
    const char *overrides[] = {"optim.step=1", "optim.steps=x"};
    CHECK_INT(load_with("{\"optim\": {\"lr\": -1, \"clipp\": 2}, \"dat\": {}}", overrides, 2, false),
              HN_ERR_USAGE);
    CHECK_TEXT(error.message,
               "c.json: optim.clipp: unknown key, got 2; the nearest is optim.clip, a number\n"
               "c.json: dat: unknown section; the nearest is data\n"
               "command line: optim.step: unknown key, got the string \"1\"; the nearest is optim.steps, an "
               "integer from 1 to "
               "100 steps\n"
               "c.json: optim.lr: expected a number from 0 to 1000, got -1\n"
               "command line: optim.steps: expected an integer from 1 to 100 steps, got the string \"x\"\n"
               "c.json: data.train: required and missing: expected a list of strings (Training files)");
}

TEST(more_errors_than_fit)
{
    char json[8000] = "{\"data\": {\"train\": \"a\"";
    for (int i = 0; i < 100; i++) snprintf(json + strlen(json), 64, ", \"wrong%d\": %d", i, i);
    strcat(json, "}}");
    CHECK_INT(load(json), HN_ERR_USAGE);
    CHECK_CONTAINS(error.message, "data.wrong0: unknown key");
    const char *end = strrchr(error.message, '\n');
    int more = 0, lines = 0;
    for (const char *c = error.message; *c; c++) lines += *c == '\n';
    CHECK(end && sscanf(end, "\n... and %d more", &more) == 1);
    CHECK_INT(lines + more, 100);
}

/* What is beyond the message is not compared with every key: that took 17 seconds. */
TEST(very_many_errors_cost_nothing)
{
    enum { MANY = 60000 };
    char *json = malloc(MANY * 24 + 64), *at = json;
    CHECK(json);
    at += sprintf(at, "{\"data\": {\"train\": \"a\"");
    for (int i = 0; i < MANY; i++) at += sprintf(at, ", \"wrong%d\": 1", i);
    sprintf(at, "}}");
    clock_t began = clock();
    CHECK_INT(load(json), HN_ERR_USAGE);
    CHECK((double)(clock() - began) / CLOCKS_PER_SEC < 1);
    CHECK_CONTAINS(error.message, "data.wrong0: unknown key");
    CHECK_CONTAINS(error.message, "... and 59");
    free(json);
}

TEST(files_that_are_no_config)
{
    CHECK_INT(load("{\"optim\": {\"lr\": 1,\n \"lr\": 2}}"), HN_ERR_USAGE);
    CHECK_TEXT(error.message,
               "c.json:2:5: duplicate object key near '\"lr\"' (the same key twice in one object)");
    CHECK_INT(load("[]"), HN_ERR_USAGE);
    CHECK_TEXT(error.message, "c.json: expected an object of sections, got an array");
    CHECK_INT(load("{\"optim\": {\"lr\": 1e999}}"), HN_ERR_USAGE);
    CHECK_CONTAINS(error.message, "a number must fit 64 bits");
    CHECK_INT(load("{\"data\": {\"train\": [\"a\\u0000b\"]}}"), HN_ERR_USAGE);
    CHECK_CONTAINS(error.message, "data.train: expected a list of strings");
    hn_error_reset(&error);
    const char *overrides[] = {"optim.lr=x"};
    CHECK_INT(hn_config_load(&config, tables, 2, "none.json", overrides, 1, false, &error), HN_ERR_USAGE);
    CHECK_TEXT(error.message,
               "none.json: cannot open: No such file or directory\n"
               "command line: optim.lr: expected a number from 0 to 1000, got the string \"x\"");
}

TEST(required_keys_can_be_waived)
{
    data.train.count = 77;
    CHECK_INT(load_with("{}", NULL, 0, false), HN_ERR_USAGE);
    CHECK_OK(load_with("{}", NULL, 0, true));
    CHECK_INT(data.train.count, 77); /* left as it was */
    CHECK_NEAR(optim.lr, 5e-5, 0);
    json_t *resolved = hn_config_resolved(config);
    bool null = json_is_null(json_object_get(json_object_get(resolved, "data"), "train"));
    json_decref(resolved);
    CHECK(null);
}

TEST(failure_writes_nothing)
{
    optim = (optim_config){.lr = 42};
    CHECK_INT(load("{\"optim\": {\"lr\": 1, \"steps\": \"x\"}}"), HN_ERR_USAGE);
    CHECK_NEAR(optim.lr, 42, 0);
}

TEST(resolved_is_complete_and_reads_back)
{
    hn_strbuf first, second;
    hn_strbuf_init(&first);
    hn_strbuf_init(&second);
    CHECK_OK(load_override("data.names.n=3"));
    json_t *resolved = hn_config_resolved(config);
    hn_json_write(&first, resolved, 0);
    json_decref(resolved);
    CHECK_TEXT(first.text, "{\"optim\": {\"lr\": 5e-05, \"clip\": 1.0, \"schedule\": \"linear\", \"steps\": "
                           "7, \"seed\": -3, \"fused\": true}, "
                           "\"data\": {\"train\": [\"a.jsonl\"], \"dev\": null, \"fields\": {\"text\": "
                           "\"text\", \"pair\": null}, "
                           "\"names\": {\"n\": \"3\"}, \"every\": \"0.5 epoch\"}}");
    CHECK_OK(load(first.text));
    resolved = hn_config_resolved(config);
    hn_json_write(&second, resolved, 0);
    json_decref(resolved);
    CHECK_TEXT(second.text, first.text);
    hn_strbuf_close(&first);
    hn_strbuf_close(&second);
}

TEST(differences)
{
    hn_strbuf lines;
    hn_strbuf_init(&lines);
    CHECK_OK(load_override("optim.lr=1"));
    json_t *a = hn_config_resolved(config);
    CHECK(hn_config_difference(&lines, tables, 2, a, a));
    CHECK_TEXT(lines.text, "");
    CHECK_OK(load_override("optim.lr=0.06"));
    json_t *b = hn_config_resolved(config);
    CHECK(hn_config_difference(&lines, tables, 2, a, b));
    CHECK_TEXT(lines.text, "optim.lr: 1.0 -> 0.06\n");
    hn_strbuf_reset(&lines);
    CHECK_OK(load_override("data.dev=d"));
    json_t *c = hn_config_resolved(config);
    CHECK(!hn_config_difference(&lines, tables, 2, b, c));
    CHECK_TEXT(lines.text, "optim.lr: 0.06 -> 5e-05\ndata.dev: null -> [\"d\"]\n");
    hn_strbuf_reset(&lines);
    json_object_del(json_object_get(c, "data"), "every"); /* from before there was such a key */
    json_object_del(c, "optim");
    CHECK_OK(load_override("data.dev=d"));
    json_t *d = hn_config_resolved(config);
    CHECK(hn_config_difference(&lines, tables, 2, c, d));
    CHECK_TEXT(lines.text, "");
    json_decref(a);
    json_decref(b);
    json_decref(c);
    json_decref(d);
    hn_strbuf_close(&lines);
}

TEST(reference)
{
    hn_strbuf out;
    hn_strbuf_init(&out);
    hn_config_reference(&out, tables, 2, true, NULL);
    CHECK_CONTAINS(
        out.text,
        "## optim\n\n| key | value | default | may change on resume | meaning |\n|---|---|---|---|---|\n"
        "| `optim.lr` | a number from 0 to 1000 | `5e-5` | yes | Peak learning rate |\n");
    CHECK_CONTAINS(out.text, "Shape a\\|b of the learning rate |\n");
    CHECK_CONTAINS(out.text, "\n\n## data\n\n");
    CHECK_CONTAINS(out.text, "| `data.train` | a list of strings | required | no | Training files |\n");
    hn_strbuf_reset(&out);
    hn_config_reference(&out, tables, 2, false, "Data.Train");
    CHECK_TEXT(out.text, "data.train: a list of strings; required\n    Training files\n");
    hn_strbuf_reset(&out);
    hn_config_reference(&out, tables, 2, false, "learning");
    CHECK_CONTAINS(out.text,
                   "optim.schedule: one of linear, cosine, constant; default \"linear\"\n    Shape");
    hn_strbuf_close(&out);
}

TEST(long_names_are_cut)
{
    char json[700];
    snprintf(json, sizeof json, "{\"data.train\": \"a\", \"%0500d\": 1}", 0);
    CHECK_INT(load(json), HN_ERR_USAGE);
    CHECK_CONTAINS(error.message, "000...: unknown key, got 1");
    CHECK(strlen(error.message) < 200);
}

TEST(edit_distance)
{
    static const struct {
        const char *a, *b;
        size_t distance;
    } cases[] = {{"", "", 0},       {"", "abc", 3},           {"abc", "", 3},         {"abc", "abc", 0},
                 {"abc", "abd", 1}, {"abc", "ac", 1},         {"abc", "abxc", 1},     {"chioce", "choice", 1},
                 {"ab", "ba", 1},   {"kitten", "sitting", 3}, {"abcdef", "badcfe", 3}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_INT(hnp_edit_distance(cases[i].a, cases[i].b), cases[i].distance);
}

TEST(interval_steps)
{
    CHECK_INT(hn_interval_steps((hn_interval){500, HN_INTERVAL_STEPS}, 10), 500);
    CHECK_INT(hn_interval_steps((hn_interval){0.5, HN_INTERVAL_EPOCHS}, 1001), 501);
    CHECK_INT(hn_interval_steps((hn_interval){0.001, HN_INTERVAL_EPOCHS}, 10), 1);
    CHECK_INT(hn_interval_steps((hn_interval){0, HN_INTERVAL_OFF}, 10), 0);
    CHECK_INT(hn_interval_steps((hn_interval){1e300, HN_INTERVAL_EPOCHS}, 10), INT64_MAX);
}

static void memory_runs_out_of(const char *json, const char *const *overrides, size_t count, hn_status end)
{
    size_t n = 1;
    for (;; n++) {
        load_with(json, NULL, 0, true); /* writes the file */
        hn_config_free(config);
        config = NULL;
        hn_error_reset(&error);
        hn_mem_fail_at(n);
        hn_status status = hn_config_load(&config, tables, 2, "c.json", overrides, count, false, &error);
        hn_mem_fail_at(0);
        if (status == end) break;
        CHECK_INT(status, HN_ERR_MEMORY);
    }
    CHECK(n > 20);
    test_promise(end == HN_OK ? "the n-th allocation fails, reading a config" : "the n-th allocation fails, reading a bad config", n, n);
}

TEST(memory_runs_out)
{
    const char *good[] = {"optim.lr=1e-3", "data.train=x,y,z", "data.names.a=1", "data.dev=[\"p\"]",
                          "data.every=1 epoch"};
    memory_runs_out_of("{\"optim\": {\"lr\": 9}, \"data\": {\"train\": [\"a\"], \"names\": {\"b\": 1}}}",
                       good, 5, HN_OK);
    const char *bad[] = {"optim.lrr=1e-3", "data.train=[1", "data.every=2"};
    memory_runs_out_of("{\"optim\": {\"lr\": \"x\"}, \"data\": {\"train\": [3], \"names\": {\"b\": []}}}",
                       bad, 3, HN_ERR_USAGE);
}

static char folder[] = "/tmp/hone-config-XXXXXX";

static void setup(void)
{
    hn_json_init();
    if (!mkdtemp(folder) || chdir(folder)) abort();
}

static void teardown(void)
{
    hn_config_free(config);
    if (unlink("c.json") || chdir("/") || rmdir(folder)) abort();
}

TEST_MAIN(setup(); RUN(defaults); RUN(every_type_from_a_file); RUN(overrides_win); RUN(each_error_in_a_file);
          RUN(each_error_on_the_command_line); RUN(all_errors_at_once); RUN(more_errors_than_fit); RUN(very_many_errors_cost_nothing);
          RUN(files_that_are_no_config); RUN(required_keys_can_be_waived); RUN(failure_writes_nothing);
          RUN(resolved_is_complete_and_reads_back); RUN(differences); RUN(reference); RUN(interval_steps);
          RUN(long_names_are_cut); RUN(edit_distance); RUN(memory_runs_out); teardown())

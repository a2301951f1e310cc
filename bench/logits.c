/* Logits of every position of a text, for tests/golden/check_generate.py: `logits MODEL FILE` reads ids from standard input and writes
 * fp32 [ids, vocabulary] to FILE. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "data/dataset.h"
#include "infer/runner.h"

enum { MOST = 4096 };

static hn_status load(hn_runner *runner, hn_source **source, const char *path, int32_t count, hn_error *error)
{
    hn_strbuf initialised, ignored;
    hn_strbuf_init(&initialised);
    hn_strbuf_init(&ignored);
    hn_status status = hn_source_open(source, path, error);
    hn_runner_options options = {.precision = HN_F32, .evaluation = {.tokens = count, .examples = count, .longest = count}};
    if (status == HN_OK) status = hn_runner_init(runner, &(*source)->config, &options, error);
    if (status == HN_OK) status = hn_runner_alloc(runner, error);
    if (status == HN_OK) status = hn_runner_load(runner, *source, 0, &initialised, &ignored, error);
    hn_strbuf_close(&initialised);
    hn_strbuf_close(&ignored);
    return status;
}

static hn_status run(hn_runner *runner, const int32_t *ids, int32_t count, const char *path, hn_error *error)
{
    static int32_t rows[MOST];
    hn_batch_buffer buffer;
    hn_forward forward = {0};
    hn_status status = hn_batch_buffer_init(&buffer, count, count, error);
    if (status != HN_OK) return status;
    hn_batch *batch = &buffer.batch;
    batch->n = 1, batch->tokens = batch->longest = batch->cu_seqlens[1] = count;
    for (int32_t t = 0; t < count; t++) batch->token[t] = ids[t], batch->position[t] = rows[t] = t;
    hn_runner_use(runner, false, 0);
    status = hn_device_batch_upload(&runner->batch, batch, error);
    if (status != HN_OK) goto out;
    hn_model_forward(runner->model, &runner->ctx, &runner->batch.batch, &forward);
    hn_tensor logits = hn_model_logits(runner->model, &runner->ctx, rows, count);
    if (runner->step_error.status != HN_OK) status = hn_fail(error, runner->step_error.status, "%s", runner->step_error.message);
    FILE *file = status == HN_OK ? fopen(path, "wb") : NULL;
    if (status == HN_OK && (!file || fwrite(logits.data, 1, hn_tensor_bytes(&logits), file) != hn_tensor_bytes(&logits)))
        status = hn_fail_errno(error, "%s: cannot write", path);
    if (file && fclose(file) && status == HN_OK) status = hn_fail_errno(error, "%s: cannot write", path);
out:
    hn_batch_buffer_close(&buffer);
    return status;
}

int main(int argc, char **argv)
{
    static int32_t ids[MOST];
    int32_t count = 0;
    hn_runner runner = {0};
    hn_source *source = NULL;
    hn_error error = {0};
    hn_json_init();
    while (count < MOST && scanf("%d", &ids[count]) == 1) count++;
    if (argc != 3 || !count) {
        fprintf(stderr, "logits MODEL FILE <IDS\n");
        return 2;
    }
    hn_status status = load(&runner, &source, argv[1], count, &error);
    if (status == HN_OK) status = run(&runner, ids, count, argv[2], &error);
    if (status != HN_OK) fprintf(stderr, "logits: %s\n", error.message);
    hn_runner_close(&runner);
    hn_source_free(source);
    return status != HN_OK;
}

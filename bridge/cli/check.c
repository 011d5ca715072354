#include <stdlib.h>

#include "bridge/cli/check_broker.h"
#include "bridge/cli/check_devices.h"
#include "bridge/cli/check_files.h"
#include "bridge/cli/cli.h"
#include "bridge/cli/verdict.h"
#include "bridge/site/change.h"

enum { EXIT_USAGE = 2 };

/* Also where only files are missing that may come later. */
static bool read_conf(struct cfg *cfg, const char *path, struct conf *conf)
{
    return conf_read(cfg, path, conf) ||
           (!cfg->lacks && cfg->outside > 0 && cfg->problems == cfg->outside);
}

static void compare(struct verdict *verdict, const char *path, const char *against)
{
    struct cfg quiet = {.waits = true}; /* what is wrong with the new one has been said */
    struct conf before, after = {0};
    struct change change = {.devices = NULL};
    char why[CHANGE_WHY_MAX] = "out of memory";
    verdict_note_reload(verdict, "");
    if (!read_conf(&verdict->cfg, against, &before) || !conf_read(&quiet, path, &after))
        verdict_note_reload(verdict, "what it would do is not known");
    else if (!change_make_room(&before) || !change_find(&before, &after, &change, why))
        verdict_note_reload(verdict, why);
    else
        change_tell(&before, &after, &change, verdict_note_reload, verdict);
    change_free(&change);
    conf_free(&before);
    conf_free(&after);
}

int cli_check(const char *path, const char *against, bool online, bool json)
{
    const struct cfg_setting *file = NULL;
    struct verdict verdict;
    struct conf conf = {0};
    const bool begun = verdict_begin(&verdict, json);
    const bool good = begun && read_conf(&verdict.cfg, path, &conf) &&
                      (file = cfg_open(&verdict.cfg, path)) != NULL;
    /* What could not be read for want of memory is not wrong. */
    int code = begun && !verdict.cfg.lacks ? EXIT_USAGE : EXIT_FAILURE;
    if (good) {
        const struct check check = {.cfg = &verdict.cfg, .conf = &conf, .file = file};
        check_files(&check);
        check_speeds(&check);
        if (online) {
            verdict_show(&verdict);
            check_broker(&check);
        }
        for (unsigned link = 0; online && link < conf.devices.n_links; link++) {
            verdict_show(&verdict);
            check_link(&check, link);
        }
        if (against != NULL)
            compare(&verdict, path, against);
        code = verdict.cfg.problems == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    verdict_end(&verdict, path, good ? &conf : NULL);
    cfg_close(file);
    conf_free(&conf);
    return code;
}

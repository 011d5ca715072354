#include <stdlib.h>

#include "bridge/cli/check_broker.h"
#include "bridge/cli/check_devices.h"
#include "bridge/cli/check_files.h"
#include "bridge/cli/cli.h"
#include "bridge/cli/verdict.h"

enum { EXIT_USAGE = 2 };

int cli_check(const char *path, bool online, bool json)
{
    const struct cfg_setting *file = NULL;
    struct verdict verdict;
    struct conf conf = {0};
    bool good = verdict_begin(&verdict, json) && conf_read(&verdict.cfg, path, &conf) &&
                (file = cfg_open(&verdict.cfg, path)) != NULL;
    int code = EXIT_USAGE;
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
        code = verdict.cfg.problems == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    verdict_end(&verdict, path, good ? &conf : NULL);
    cfg_close(file);
    conf_free(&conf);
    return code;
}

/* page_text: the page, made of the files of bridge/ops/page/ when the program is
 * built (bridge/ops/page/embed.cmake). Compressed (gzip), a third of its size, where
 * there is a zlib to build with: PAGE_IS_PACKED then.
 */
#ifndef BRIDGE_OPS_PAGE_TEXT_H
#define BRIDGE_OPS_PAGE_TEXT_H

#include <stddef.h>

extern const unsigned char page_text[];
extern const size_t page_text_size;

/* What else the browser may load and run for it: nothing. The one script and the
 * one style are named by their hashes. */
extern const char page_text_policy[];

#endif

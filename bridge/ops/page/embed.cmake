# Makes C of the page: index.html with its style and its script put in, and the
# policy that names both by their hashes.
#   cmake -DFROM=<this folder> -DTO=<page_text.c> -DPACKED=<ON or OFF> -P embed.cmake
# PACKED: the page is compressed, as gzip does.

# SHA-256 in base64, as a Content-Security-Policy wants it; CMake gives it in hex.
function(hash TEXT RESULT)
  string(SHA256 hex "${TEXT}")
  string(APPEND hex "00") # 33 bytes make 44 letters; the last is the padding
  set(letters ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/)
  set(base64 "")
  foreach(at RANGE 0 63 3)
    string(SUBSTRING ${hex} ${at} 3 digits)
    math(EXPR first "0x${digits} >> 6")
    math(EXPR second "0x${digits} & 63")
    string(SUBSTRING ${letters} ${first} 1 first)
    string(SUBSTRING ${letters} ${second} 1 second)
    string(APPEND base64 ${first}${second})
  endforeach()
  string(SUBSTRING ${base64} 0 43 base64)
  set(${RESULT} "${base64}=" PARENT_SCOPE)
endfunction()

file(READ ${FROM}/index.html page)
file(READ ${FROM}/uPlot.min.css chart_style)
file(READ ${FROM}/page.css style)
file(READ ${FROM}/uPlot.iife.min.js chart_script)
file(READ ${FROM}/page.js script)
set(style "${chart_style}${style}")
set(script "${chart_script}${script}")
hash("${style}" style_hash)
hash("${script}" script_hash)
string(REPLACE "@STYLE@" "${style}" page "${page}")
string(REPLACE "@SCRIPT@" "${script}" page "${page}")

file(WRITE ${TO}.html "${page}")
if(PACKED)
  # The same bytes at each build: no time in them.
  file(ARCHIVE_CREATE OUTPUT ${TO}.gz PATHS ${TO}.html FORMAT raw COMPRESSION GZip
    COMPRESSION_LEVEL 9 MTIME 0)
  file(RENAME ${TO}.gz ${TO}.html)
endif()
file(READ ${TO}.html hex HEX)
file(REMOVE ${TO}.html)
string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "(................................................................................)" "\\1\n" bytes "${bytes}")
file(WRITE ${TO} "/* Made by bridge/ops/page/embed.cmake. */
#include \"bridge/ops/page_text.h\"

const unsigned char page_text[] = {
${bytes}};
const size_t page_text_size = sizeof(page_text);
const char page_text_policy[] =
    \"default-src 'none'; script-src 'sha256-${script_hash}'; \"
    \"style-src 'sha256-${style_hash}'; connect-src 'self'; img-src data:; \"
    \"base-uri 'none'; form-action 'none'; frame-ancestors 'none'\";
")

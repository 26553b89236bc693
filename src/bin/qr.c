#include "bin/qr.h"

#include <errno.h>
#include <qrencode.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

/* Light modules around the code that readers need. (ISO/IEC 18004: four) */
#define QUIET 4

static bool is_dark(const QRcode *code, int x, int y)
{
    return x >= 0 && y >= 0 && x < code->width && y < code->width &&
           (code->data[y * code->width + x] & 1) != 0;
}

/* Black on white said in colours, so that it reads in light and dark terminals. Without colours the
 * blocks are the light modules, which is right for the common light text on dark. */
static bool has_colours(void)
{
    const char *term = getenv("TERM"), *no_colour = getenv("NO_COLOR");
    return (no_colour == NULL || no_colour[0] == '\0') &&
           (term == NULL || strcmp(term, "dumb") != 0);
}

static void print_code(FILE *out, const QRcode *code, bool colours)
{
    static const char *const blocks[] = {" ", "\u2584", "\u2580", "\u2588"};
    for (int y = -QUIET; y < code->width + QUIET; y += 2) {
        (void)fputs(colours ? "\033[38;5;16;48;5;231m" : "", out);
        for (int x = -QUIET; x < code->width + QUIET; x++) {
            unsigned upper = is_dark(code, x, y) == colours;
            unsigned lower = is_dark(code, x, y + 1) == colours;
            (void)fputs(blocks[upper * 2 + lower], out);
        }
        (void)fputs(colours ? "\033[0m\n" : "\n", out);
    }
}

int qr_print(FILE *out, const char *text)
{
    QRcode *code = QRcode_encodeString8bit(text, 0, QR_ECLEVEL_L);
    if (code == NULL) {
        return errno == ERANGE ? MVPN_E_LIMIT : MVPN_E_NOMEM;
    }
    print_code(out, code, has_colours());
    QRcode_free(code);
    return 0;
}

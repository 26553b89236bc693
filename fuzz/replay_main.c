/*
 * Runs files, or the files of directories, through a fuzz target: the corpus as a test.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "fuzz/fuzz.h"

#define INPUT_MAX (1u << 20)

static unsigned count;

static int run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *bytes = malloc(INPUT_MAX);
    if (f == NULL || bytes == NULL) {
        (void)fprintf(stderr, "%s: cannot be read\n", path);
        free(bytes);
        if (f != NULL) {
            (void)fclose(f);
        }
        return -1;
    }
    size_t n = fread(bytes, 1, INPUT_MAX, f);
    (void)fclose(f);
    uint8_t *exact = malloc(n > 0 ? n : 1); /* a sanitizer sees any read behind the end */
    MVPN_ASSERT(exact != NULL);
    memcpy(exact, bytes, n);
    free(bytes);
    (void)printf("%s\n", path);
    (void)fflush(stdout); /* names the culprit if it crashes */
    (void)LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    count++;
    return 0;
}

static int run_directory(const char *path)
{
    struct dirent **names;
    int r = 0, n = scandir(path, &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char file[4096];
        (void)snprintf(file, sizeof(file), "%s/%s", path, names[i]->d_name);
        if (names[i]->d_name[0] != '.') {
            r |= run_file(file);
        }
        free(names[i]);
    }
    if (n >= 0) {
        free(names);
    }
    return n < 0 ? -1 : r;
}

int main(int argc, char **argv)
{
    int r = 0;
    for (int i = 1; i < argc; i++) {
        struct stat st;
        if (stat(argv[i], &st) != 0) {
            (void)fprintf(stderr, "%s: not there\n", argv[i]);
            return 1;
        }
        r |= S_ISDIR(st.st_mode) ? run_directory(argv[i]) : run_file(argv[i]);
    }
    (void)printf("%u inputs\n", count);
    return r != 0 || count == 0;
}

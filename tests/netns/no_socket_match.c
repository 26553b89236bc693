/*
 * Preloaded into a program (LD_PRELOAD): as if the kernel's packet filter were built without the
 * expression `socket` (nft_socket). A transaction with it is refused whole.
 */
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

ssize_t sendto(int fd, const void *data, size_t n, int flags, __CONST_SOCKADDR_ARG to,
               socklen_t len)
{
    static ssize_t (*real)(int, const void *, size_t, int, __CONST_SOCKADDR_ARG, socklen_t);
    static const char name[] = "socket"; /* with its zero, as an attribute has it */
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "sendto");
    }
    if (memmem(data, n, name, sizeof(name)) != NULL) {
        errno = ENOENT;
        return -1;
    }
    return real(fd, data, n, flags, to, len);
}

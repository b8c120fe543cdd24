/* Finds the plugin as a program of a user does, and prints where it is. */
#include "octopus.hpp"

#include <dlfcn.h>

#include <exception>
#include <iostream>

int main()
try {
    const octopus::Library library = octopus::Library::find();
    Dl_info file{};
    if (!dladdr(reinterpret_cast<void *>(library.api().driver->create), &file))
        return 2;
    std::cout << file.dli_fname << '\n';
    return 0;
} catch (const std::exception &error) {
    std::cout << error.what() << '\n';
    return 1;
}

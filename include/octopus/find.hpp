/// @file
/// Library::find: searches for the plugin and loads it. Part of octopus.hpp.

#ifndef OCTOPUS_FIND_HPP
#define OCTOPUS_FIND_HPP

#include "library.hpp"

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include <dlfcn.h>
#include <sys/auxv.h>

namespace octopus {
namespace detail {

/// A search for the plugin, and the locations that it has tried in vain.
class Search {
public:
    Library run()
    {
        if (const auto path = variable("OCTOPUS_LIBRARY"))
            return load(*path, "loading Octopus: OCTOPUS_LIBRARY=" + *path);
        for (const auto &manifest : {user_manifest(), std::optional(std::string(SYSTEM_MANIFEST))})
            if (auto library = manifest ? by_manifest(*manifest) : std::nullopt)
                return *library;
        if (const auto prefix = variable("CONDA_PREFIX"))
            if (auto library = try_path(*prefix + "/lib/" + FILE_NAME))
                return *library;
        if (auto library = try_path(FILE_NAME))
            return *library;
        throw std::runtime_error("loading Octopus: it was not found: " + tried_ +
                                 "; install it, or set OCTOPUS_LIBRARY to the path of " +
                                 FILE_NAME);
    }

private:
    static constexpr const char *FILE_NAME = "liboctopus.so";
    static constexpr const char *SYSTEM_MANIFEST = "/etc/octopus/octopus.driver";

    /// The keys of a manifest that a search needs. Other keys are for people.
    struct Manifest {
        std::string path, abi;
    };

    /// A variable of the environment, which a program with more rights than its user (setuid) must
    /// not obey.
    std::optional<std::string> variable(const char *name)
    {
        const char *value = std::getenv(name);
        if (!value || !*value)
            return failed(name, "not set");
        if (getauxval(AT_SECURE))
            return failed(name, "ignored, since the program has more rights than its user");
        return value;
    }

    std::optional<std::string> user_manifest()
    {
        const std::string name = "/octopus/octopus.driver";
        if (std::getenv("XDG_CONFIG_HOME"))
            if (const auto folder = variable("XDG_CONFIG_HOME"))
                return *folder + name;
        const auto home = variable("HOME");
        return home ? std::optional(*home + "/.config" + name) : std::nullopt;
    }

    std::optional<Library> by_manifest(const std::string &file)
    {
        const auto manifest = read(file);
        if (!manifest)
            return failed(file, std::strerror(errno));
        if (manifest->path.empty())
            return failed(file, "it has no line path=...");
        if (!manifest->abi.empty() && !is_usable(manifest->abi))
            return failed(file, "its library has ABI version " + manifest->abi +
                                    ", this program is built for " + abi());
        const bool is_absolute = manifest->path.front() == '/';
        const std::string folder = file.substr(0, file.rfind('/') + 1);
        return try_path(is_absolute ? manifest->path : folder + manifest->path, file + ": ");
    }

    static std::string abi()
    {
        return std::to_string(OCTOPUS_ABI_MAJOR) + "." + std::to_string(OCTOPUS_ABI_MINOR);
    }

    /// Before version 1, another minor version may differ in anything.
    static bool is_usable(const std::string &version)
    {
        const std::string major = std::to_string(OCTOPUS_ABI_MAJOR) + ".";
        return OCTOPUS_ABI_MAJOR > 0 ? version.compare(0, major.size(), major) == 0
                                     : version == abi();
    }

    static std::optional<Manifest> read(const std::string &file)
    {
        errno = 0;
        std::ifstream lines(file);
        if (!lines)
            return std::nullopt;
        Manifest manifest;
        for (std::string line; std::getline(lines, line);) {
            const auto equals = line.find('=');
            if (equals == std::string::npos || trimmed(line).front() == '#')
                continue;
            const std::string key(trimmed(std::string_view(line).substr(0, equals)));
            const std::string value(trimmed(std::string_view(line).substr(equals + 1)));
            if (key == "path")
                manifest.path = value;
            else if (key == "abi")
                manifest.abi = value;
        }
        return manifest;
    }

    static std::string_view trimmed(std::string_view text)
    {
        const char *const blanks = " \t\r";
        const auto first = text.find_first_not_of(blanks);
        if (first == std::string_view::npos)
            return {};
        return text.substr(first, text.find_last_not_of(blanks) - first + 1);
    }

    std::optional<Library> try_path(const std::string &path, const std::string &from = {})
    {
        try {
            return load(path, from + path);
        } catch (const std::runtime_error &error) {
            note(error.what());
            return std::nullopt;
        }
    }

    static Library load(const std::string &path, const std::string &location)
    {
        void *const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (!library)
            throw std::runtime_error(location + ": " + reason(path));
        // Closed if it is rejected, or dlopen would find it again by its name.
        void *const entry = dlsym(library, "octopus_register");
        if (!entry) {
            const std::string why = reason(path);
            dlclose(library);
            throw std::runtime_error(location + ": it is not Octopus: " + why);
        }
        try {
            return Library(reinterpret_cast<const octopus_api *(*)(std::uint32_t)>(entry));
        } catch (const std::runtime_error &error) {
            dlclose(library);
            throw std::runtime_error(location + ": " + error.what());
        }
    }

    /// The text of dlerror, which mostly begins with the path.
    static std::string reason(const std::string &path)
    {
        const std::string text = dlerror();
        const bool repeats_path = text.compare(0, path.size() + 2, path + ": ") == 0;
        return repeats_path ? text.substr(path.size() + 2) : text;
    }

    std::nullopt_t failed(const std::string &location, const std::string &reason)
    {
        note(location + ": " + reason);
        return std::nullopt;
    }

    void note(const std::string &failure) { tried_ += (tried_.empty() ? "" : "; ") + failure; }

    std::string tried_;
};

} // namespace detail

inline Library Library::find() { return detail::Search().run(); }

} // namespace octopus

#endif /* OCTOPUS_FIND_HPP */

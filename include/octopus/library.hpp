/// @file
/// The loaded plugin. Part of octopus.hpp.

#ifndef OCTOPUS_LIBRARY_HPP
#define OCTOPUS_LIBRARY_HPP

#include "detail.hpp"

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace octopus {

/// The loaded plugin. It is never unmapped, so copies of this object are always valid.
///
/// @since 0.1
class Library {
public:
    /// Gets the plugin's tables.
    ///
    /// @param entry octopus_register, linked or from dlsym.
    /// @throws std::runtime_error if the plugin has another version of the ABI than this header.
    explicit Library(const octopus_api *(*entry)(std::uint32_t))
        : api_(entry ? entry(OCTOPUS_ABI_MAJOR) : nullptr)
    {
        const bool has_same_version = api_ && (OCTOPUS_ABI_MAJOR > 0 ||
                                               api_->abi_minor == OCTOPUS_ABI_MINOR);
        if (!has_same_version || !has_all_slots())
            throw std::runtime_error("the library does not have version " +
                                     std::to_string(OCTOPUS_ABI_MAJOR) + "." +
                                     std::to_string(OCTOPUS_ABI_MINOR) +
                                     " of Octopus' ABI: use the octopus.hpp that came with it");
    }

    /// Finds the plugin and loads it by dlopen. The search ends at the first of these that has it:
    ///
    /// 1. the path in the environment variable OCTOPUS_LIBRARY; if it is set, nothing else is tried
    /// 2. the manifest of the user, $XDG_CONFIG_HOME/octopus/octopus.driver (by default in
    ///    ~/.config), then that of the system, /etc/octopus/octopus.driver
    /// 3. $CONDA_PREFIX/lib/liboctopus.so
    /// 4. liboctopus.so in the folders that dlopen searches: the program's RUNPATH,
    ///    LD_LIBRARY_PATH, those of the system
    ///
    /// Variables are ignored in a program with more rights than its user (setuid, setgid or file
    /// capabilities). docs/reference/discovery.md describes manifests. With a C library before
    /// glibc 2.34, link with -ldl.
    ///
    /// @throws std::runtime_error if no location has a plugin with this header's ABI. It lists each
    /// location that was tried, with the reason.
    /// @since 0.1
    static Library find();

    /// @return The version of the plugin.
    std::string_view version() const { return detail::view(api_->version); }
    /// @return The version of the librdkafka that is linked into the plugin.
    std::string_view librdkafka_version() const { return detail::view(api_->librdkafka_version); }
    /// @return The features that this librdkafka was built with, separated by commas.
    std::string_view built_in() const { return detail::view(api_->built_in); }

    /// @return The tables of the C ABI, for direct calls.
    const octopus_api &api() const { return *api_; }

private:
    /// Checked once here, so that calls need no check.
    bool has_all_slots() const
    {
        return api_->size >= sizeof *api_ && api_->error->size >= sizeof *api_->error &&
               api_->string->size >= sizeof *api_->string &&
               api_->driver->size >= sizeof *api_->driver &&
               api_->topic->size >= sizeof *api_->topic &&
               api_->producer->size >= sizeof *api_->producer &&
               api_->consumer->size >= sizeof *api_->consumer &&
               api_->future->size >= sizeof *api_->future &&
               api_->event->size >= sizeof *api_->event &&
               api_->thread_pool->size >= sizeof *api_->thread_pool;
    }

    const octopus_api *api_;
};

} // namespace octopus

#endif /* OCTOPUS_LIBRARY_HPP */

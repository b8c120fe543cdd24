/* The loaded plugin. A part of octopus.hpp. */

#ifndef OCTOPUS_LIBRARY_HPP
#define OCTOPUS_LIBRARY_HPP

#include "detail.hpp"

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace octopus {

/* The loaded plugin. It is never unloaded, so copies of this are all that is ever needed. */
class Library {
public:
    /* `entry` is octopus_register, linked or found by dlsym. Throws std::runtime_error when the plugin speaks another
     * version of the ABI than this header. */
    explicit Library(const octopus_api *(*entry)(std::uint32_t)) : api_(entry ? entry(OCTOPUS_ABI_MAJOR) : nullptr)
    {
        const bool speaks_ours = api_ && (OCTOPUS_ABI_MAJOR > 0 || api_->abi_minor == OCTOPUS_ABI_MINOR);
        if (!speaks_ours || !has_all_slots())
            throw std::runtime_error("the library does not speak version " + std::to_string(OCTOPUS_ABI_MAJOR) + "." +
                                     std::to_string(OCTOPUS_ABI_MINOR) +
                                     " of Octopus' ABI: use the octopus.hpp that came with it");
    }

    /* The plugin's version, librdkafka's, and what that was built with. */
    std::string_view version() const { return detail::view(api_->version); }
    std::string_view librdkafka_version() const { return detail::view(api_->librdkafka_version); }
    std::string_view built_in() const { return detail::view(api_->built_in); }

    /* The tables, for what this header doesn't wrap. */
    const octopus_api &api() const { return *api_; }

private:
    /* So that no call has to look. */
    bool has_all_slots() const
    {
        return api_->size >= sizeof *api_ && api_->error->size >= sizeof *api_->error &&
               api_->string->size >= sizeof *api_->string && api_->driver->size >= sizeof *api_->driver &&
               api_->topic->size >= sizeof *api_->topic && api_->producer->size >= sizeof *api_->producer &&
               api_->consumer->size >= sizeof *api_->consumer && api_->future->size >= sizeof *api_->future &&
               api_->event->size >= sizeof *api_->event && api_->thread_pool->size >= sizeof *api_->thread_pool;
    }

    const octopus_api *api_;
};

} // namespace octopus

#endif /* OCTOPUS_LIBRARY_HPP */

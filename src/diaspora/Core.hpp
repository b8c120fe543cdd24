/* Access to the core of the plugin, which is in the same library, and the conversion of its
 * exceptions. */

#ifndef OCTOPUS_DIASPORA_CORE_HPP
#define OCTOPUS_DIASPORA_CORE_HPP

#include <octopus.hpp>

#include <diaspora/Exception.hpp>

#include <utility>

namespace octopus::adapter {

inline const Library &core()
{
    static const Library library(octopus_register);
    return library;
}

/* Calls the core and converts its exceptions to diaspora::Exception, which users of the API
 * catch. */
template <class Call> decltype(auto) with_api_exceptions(Call &&call)
{
    try {
        return std::forward<Call>(call)();
    } catch (const Error &error) {
        throw diaspora::Exception(error.what());
    }
}

} // namespace octopus::adapter

#endif

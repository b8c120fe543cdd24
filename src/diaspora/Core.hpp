/* The core of the plugin, in the same library, and what it throws in the words of the Diaspora API. */

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

/* Runs a call of the core. What it throws is what users of the API catch. */
template <class Call> decltype(auto) in_their_terms(Call &&call)
{
    try {
        return std::forward<Call>(call)();
    } catch (const Error &error) {
        throw diaspora::Exception(error.what());
    }
}

} // namespace octopus::adapter

#endif

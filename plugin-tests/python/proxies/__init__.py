"""Tests of the option `proxy`, which ci/proxies.sh runs in a network namespace."""

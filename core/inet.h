/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses of TCP and UDP as people write them. */
#ifndef CORE_INET_H
#define CORE_INET_H

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>

union inet_address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/*
 * Takes "ADDRESS:" off *text; none is all that the host has. One of IPv6 is in brackets, which
 * keep its colons apart. word has what stood there. -EBADMSG.
 */
int inet_take_address(const char **text, char word[INET6_ADDRSTRLEN], union inet_address *ret);

/* Takes "PORT" off *text, and the character end behind it. -EBADMSG. */
int inet_take_port(const char **text, char end, uint16_t *ret_port);

void inet_set_port(union inet_address *address, uint16_t port);

/* Whether only this host reaches it. */
bool inet_is_loopback(const union inet_address *address);

#endif

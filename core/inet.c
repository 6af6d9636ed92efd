// SPDX-License-Identifier: Apache-2.0
#include "core/inet.h"

#include <assert.h>
#include "core/util.h"

static_assert(offsetof(struct sockaddr_in, sin_port) == offsetof(struct sockaddr_in6, sin6_port),
	      "a port has one place");

int inet_take_address(const char **text, char word[INET6_ADDRSTRLEN], union inet_address *ret)
{
	const bool v6 = **text == '[';
	const char *begin = *text + v6, *end = strchr(begin, v6 ? ']' : ':');
	size_t len = end ? (size_t)(end - begin) : 0;

	if (!end || len >= INET6_ADDRSTRLEN || (v6 && end[1] != ':'))
		return -EBADMSG;
	memcpy(word, begin, len);
	word[len] = '\0';
	*ret = (union inet_address){ .any.sa_family = v6 ? AF_INET6 : AF_INET };
	if ((v6 || len) && inet_pton(ret->any.sa_family, word,
				     v6 ? (void *)&ret->v6.sin6_addr : &ret->v4.sin_addr) != 1)
		return -EBADMSG;
	*text = end + v6 + 1;
	return 0;
}

int inet_take_port(const char **text, char end, uint16_t *ret_port)
{
	char *rest;
	unsigned long port;

	if (**text < '0' || **text > '9')
		return -EBADMSG;
	port = strtoul(*text, &rest, 10);
	if (*rest != end || !port || port > UINT16_MAX)
		return -EBADMSG;
	*ret_port = (uint16_t)port;
	*text = end ? rest + 1 : rest;
	return 0;
}

void inet_set_port(union inet_address *address, uint16_t port)
{
	address->v4.sin_port = htons(port);
}

bool inet_is_loopback(const union inet_address *address)
{
	if (address->any.sa_family == AF_INET6)
		return IN6_IS_ADDR_LOOPBACK(&address->v6.sin6_addr);
	return ntohl(address->v4.sin_addr.s_addr) >> IN_CLASSA_NSHIFT == IN_LOOPBACKNET;
}

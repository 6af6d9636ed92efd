// SPDX-License-Identifier: Apache-2.0
#include "cpu.h"

void serial_text(const char *text)
{
	while (*text)
		serial_put(*text++);
}

void serial_number(uint64_t number)
{
	char digits[24], *at = digits + sizeof(digits);

	*--at = '\0';
	do
		*--at = (char)('0' + number % 10);
	while (number /= 10);
	serial_text(at);
}

void serial_line(char *line, size_t size)
{
	size_t len = 0;
	char byte;

	while ((byte = serial_get()) != '\n')
		if (len < size - 1)
			line[len++] = byte;
	line[len] = '\0';
}

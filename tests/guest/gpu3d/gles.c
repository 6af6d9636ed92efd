// SPDX-License-Identifier: Apache-2.0
/*
 * gles: draws a triangle over half of a picture, with whatever OpenGL ES Mesa finds, prints whose
 * that is, and looks at each pixel. Exit status 1 when one is wrong, 2 when there is no OpenGL ES.
 */
#include <EGL/egl.h>
#include <EGL/eglext.h>
#include <GLES2/gl2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIDE 64

static void fail(const char *what)
{
	fprintf(stderr, "%s: EGL says 0x%x\n", what, eglGetError());
	exit(2);
}

static void make_context(void)
{
	static const EGLint config_words[] = { EGL_SURFACE_TYPE, 0, EGL_RENDERABLE_TYPE,
					       EGL_OPENGL_ES2_BIT, EGL_NONE };
	static const EGLint context_words[] = { EGL_CONTEXT_CLIENT_VERSION, 2, EGL_NONE };
	EGLDisplay display = eglGetPlatformDisplay(EGL_PLATFORM_SURFACELESS_MESA, EGL_DEFAULT_DISPLAY,
						   NULL);
	EGLConfig config;
	EGLContext context;
	EGLint count;

	if (!eglInitialize(display, NULL, NULL) || !eglBindAPI(EGL_OPENGL_ES_API))
		fail("no display");
	if (!eglChooseConfig(display, config_words, &config, 1, &count) || !count)
		fail("no configuration");
	context = eglCreateContext(display, config, EGL_NO_CONTEXT, context_words);
	if (!eglMakeCurrent(display, EGL_NO_SURFACE, EGL_NO_SURFACE, context))
		fail("no context");
}

static void make_target(void)
{
	GLuint texture, framebuffer;

	glGenTextures(1, &texture);
	glBindTexture(GL_TEXTURE_2D, texture);
	glTexImage2D(GL_TEXTURE_2D, 0, GL_RGBA, SIDE, SIDE, 0, GL_RGBA, GL_UNSIGNED_BYTE, NULL);
	glGenFramebuffers(1, &framebuffer);
	glBindFramebuffer(GL_FRAMEBUFFER, framebuffer);
	glFramebufferTexture2D(GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D, texture, 0);
	glViewport(0, 0, SIDE, SIDE);
}

static void add_shader(GLuint program, GLenum type, const char *source)
{
	GLuint shader = glCreateShader(type);

	glShaderSource(shader, 1, &source, NULL);
	glCompileShader(shader);
	glAttachShader(program, shader);
}

static void draw(void)
{
	static const GLfloat corners[] = { -1, -1, 1, -1, -1, 1 };
	GLuint program = glCreateProgram();

	add_shader(program, GL_VERTEX_SHADER,
		   "attribute vec2 at; void main() { gl_Position = vec4(at, 0.0, 1.0); }");
	add_shader(program, GL_FRAGMENT_SHADER,
		   "precision mediump float; void main() { gl_FragColor = vec4(1.0, 0.0, 0.0, 1.0); }");
	glBindAttribLocation(program, 0, "at");
	glLinkProgram(program);
	glUseProgram(program);
	glClearColor(0, 0, 1, 1);
	glClear(GL_COLOR_BUFFER_BIT);
	glVertexAttribPointer(0, 2, GL_FLOAT, GL_FALSE, 0, corners);
	glEnableVertexAttribArray(0);
	glDrawArrays(GL_TRIANGLES, 0, 3);
}

int main(void)
{
	static const unsigned char red[] = { 255, 0, 0, 255 }, blue[] = { 0, 0, 255, 255 };
	static unsigned char pixels[SIDE][SIDE][4];
	int wrong = 0;

	make_context();
	printf("%s\n", (const char *)glGetString(GL_RENDERER));
	make_target();
	draw();
	glReadPixels(0, 0, SIDE, SIDE, GL_RGBA, GL_UNSIGNED_BYTE, pixels);
	/* Nobody says whose the edge is. */
	for (int y = 0; y < SIDE; y++)
		for (int x = 0; x < SIDE; x++)
			wrong += x + y + 1 != SIDE &&
				 memcmp(pixels[y][x], x + y < SIDE ? red : blue, sizeof(red)) != 0;
	printf("%d pixels are wrong\n", wrong);
	return wrong || glGetError() != GL_NO_ERROR;
}

// SPDX-License-Identifier: Apache-2.0
/*
 * gles [show]: draws a triangle over half of a picture, with whatever OpenGL ES Mesa finds, prints
 * whose that is, and looks at each pixel. Exit status 1 when one is wrong, 2 when there is no OpenGL ES.
 * With "show" it draws on a monitor instead, says so, and stays until it is killed.
 */
#include <EGL/egl.h>
#include <EGL/eglext.h>
#include <GLES2/gl2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/guest/gpu3d/screen.h"

#define SIDE 64
#define CONFIGS_MAX 64

struct context {
	EGLDisplay display;
	EGLConfig config;
	EGLContext context;
	EGLSurface surface;
};

static void fail(const char *what)
{
	fprintf(stderr, "%s: EGL says 0x%x\n", what, eglGetError());
	exit(2);
}

/* Which of them draws what a buffer of that format (of DRM's) has; 0: any does. */
static EGLConfig choose_config(EGLDisplay display, EGLint surfaces, EGLint format)
{
	const EGLint words[] = { EGL_SURFACE_TYPE, surfaces, EGL_RENDERABLE_TYPE, EGL_OPENGL_ES2_BIT,
				 EGL_NONE };
	EGLConfig configs[CONFIGS_MAX];
	EGLint count = 0, visual;

	if (!eglChooseConfig(display, words, configs, CONFIGS_MAX, &count))
		fail("no configurations");
	for (EGLint i = 0; i < count; i++)
		if (!format || (eglGetConfigAttrib(display, configs[i], EGL_NATIVE_VISUAL_ID, &visual) &&
				visual == format))
			return configs[i];
	fail("no configuration");
	return NULL;
}

/* surface: one of GBM's; NULL: there is none to draw to. */
static struct context make_context(EGLenum platform, void *native, struct gbm_surface *surface)
{
	static const EGLint words[] = { EGL_CONTEXT_CLIENT_VERSION, 2, EGL_NONE };
	struct context context = { .display = eglGetPlatformDisplay(platform, native, NULL) };

	if (!eglInitialize(context.display, NULL, NULL) || !eglBindAPI(EGL_OPENGL_ES_API))
		fail("no display");
	context.config = choose_config(context.display, surface ? EGL_WINDOW_BIT : 0,
				       surface ? SCREEN_FORMAT : 0);
	context.context = eglCreateContext(context.display, context.config, EGL_NO_CONTEXT, words);
	if (surface)
		context.surface = eglCreatePlatformWindowSurface(context.display, context.config, surface,
								 NULL);
	if (!eglMakeCurrent(context.display, context.surface, context.surface, context.context))
		fail("no context");
	return context;
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

static int check(void)
{
	static const unsigned char red[] = { 255, 0, 0, 255 }, blue[] = { 0, 0, 255, 255 };
	static unsigned char pixels[SIDE][SIDE][4];
	int wrong = 0;

	glReadPixels(0, 0, SIDE, SIDE, GL_RGBA, GL_UNSIGNED_BYTE, pixels);
	/* Nobody says whose the edge is. */
	for (int y = 0; y < SIDE; y++)
		for (int x = 0; x < SIDE; x++)
			wrong += x + y + 1 != SIDE &&
				 memcmp(pixels[y][x], x + y < SIDE ? red : blue, sizeof(red)) != 0;
	printf("%d pixels are wrong\n", wrong);
	return wrong || glGetError() != GL_NO_ERROR;
}

static void show(void)
{
	struct screen screen;
	const char *missing = screen_open(&screen);
	struct context context;

	if (missing)
		fail(missing);
	context = make_context(EGL_PLATFORM_GBM_KHR, screen.device, screen.surface);
	draw();
	if (!eglSwapBuffers(context.display, context.surface))
		fail("no picture");
	missing = screen_show(&screen);
	if (missing)
		fail(missing);
	printf("%s\n", (const char *)glGetString(GL_RENDERER));
	fflush(stdout);
	pause();
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "show")) {
		show();
		return 0;
	}
	make_context(EGL_PLATFORM_SURFACELESS_MESA, EGL_DEFAULT_DISPLAY, NULL);
	printf("%s\n", (const char *)glGetString(GL_RENDERER));
	make_target();
	draw();
	return check();
}

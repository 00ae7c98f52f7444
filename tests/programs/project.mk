# A project of thirty sources that are made by a rule, compiled, put into a library, and linked; `make -j4 -f project.mk`.
names := $(shell seq -w 1 30)
objects := $(names:%=part%.o)

program: main.o libparts.a
	gcc -o $@ main.o -L. -lparts
	./program >said

libparts.a: $(objects)
	ar rcD $@ $(sort $^)

%.o: %.c
	gcc -O2 -c -o $@ $<

part%.c:
	printf '#include <stdio.h>\n#include <stdlib.h>\nint compare%s(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }\nint part%s(int n) { int v[64]; for (int i = 0; i < 64; i++) v[i] = (i * n * 1%s) %% 101; qsort(v, 64, sizeof v[0], compare%s); return v[n %% 64]; }\n' $* $* $* $* >$@

main.c:
	{ printf 'int part%s(int);\n' $(names); printf '#include <stdio.h>\nint main(void) {\n'; \
	  for n in $(names); do printf 'printf("%%d\\n", part%s(1%s));\n' $$n $$n; done; printf 'return 0; }\n'; } >$@

.SECONDARY: $(names:%=part%.c)

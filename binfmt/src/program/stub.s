    # See stub.rs for what it is and which instructions it may use.
    .section .rodata.ckpt_stub, "a", @progbits
    .balign 16
    .globl ckpt_stub, ckpt_stub_run, ckpt_stub_mapped, ckpt_stub_unmapped, ckpt_stub_data, ckpt_stub_end
ckpt_stub:
    nop
    nop
    mov eax, 9
    mov edi, 0
    mov rsi, [rip + ckpt_stub_data]
    mov edx, 3
    mov r10d, 0x22
    mov r8, -1
    mov r9d, 0
    syscall
ckpt_stub_mapped:
    mov rcx, rax
    bswap rcx
    movzx ecx, cl
    jrcxz 1f
    jmp 9f
1:  mov rbx, rax
    mov r12, rax
ckpt_stub_run:
2:  mov rcx, [r12]
    jrcxz 8f
    lea rcx, [rcx - 1]
    jrcxz 3f
    lea rcx, [rcx - 1]
    jrcxz 5f
    lea rcx, [rcx - 1]
    jrcxz 6f
    mov rsp, [r12 + 16]
    mov eax, 15
    syscall
8:  jmp 8f
3:  mov rax, [r12 + 8]
    mov rdi, [r12 + 16]
    mov rsi, [r12 + 24]
    mov rdx, [r12 + 32]
    mov r10, [r12 + 40]
    mov r8, [r12 + 48]
    mov r9, [r12 + 56]
    syscall
    mov [r12 + 64], rax
    mov rcx, [r12 + 72]
    jrcxz 4f
    mov rcx, rax
    bswap rcx
    movzx ecx, cl
    jrcxz 4f
    mov r12, [r12 + 72]
    jmp 2b
4:  lea r12, [r12 + 80]
    jmp 2b
5:  mov rcx, [r12 + 16]
    mov rax, [r12 + 24]
    mov [rcx], eax
    jmp 4b
6:  mov rcx, [r12 + 16]
    mov ecx, [rcx]
    jrcxz 7f
    jmp 4b
7:  mov eax, 202
    mov rdi, [r12 + 16]
    mov esi, 0
    mov edx, 0
    mov r10d, 0
    syscall
    jmp 6b
8:  mov eax, 11
    mov rdi, rbx
    mov rsi, [rip + ckpt_stub_data]
    syscall
ckpt_stub_unmapped:
9:  mov eax, 14
    mov edi, 2
    lea rsi, [rip + ckpt_stub_data + 8]
    mov edx, 0
    mov r10d, 8
    syscall
    mov r15, [rip + ckpt_stub_data + 16]
    mov r14, [rip + ckpt_stub_data + 24]
    mov r13, [rip + ckpt_stub_data + 32]
    mov r12, [rip + ckpt_stub_data + 40]
    mov rbp, [rip + ckpt_stub_data + 48]
    mov rbx, [rip + ckpt_stub_data + 56]
    mov r10, [rip + ckpt_stub_data + 72]
    mov r9, [rip + ckpt_stub_data + 80]
    mov r8, [rip + ckpt_stub_data + 88]
    mov rdx, [rip + ckpt_stub_data + 112]
    mov rsi, [rip + ckpt_stub_data + 120]
    mov rdi, [rip + ckpt_stub_data + 128]
    mov r11, [rip + ckpt_stub_data + 64]
    mov rcx, [rip + ckpt_stub_data + 104]
    mov rax, [rip + ckpt_stub_data + 96]
    jmp qword ptr [rip + ckpt_stub_data + 144]
    .balign 8
ckpt_stub_data:
    .fill 19, 8, 0
ckpt_stub_end:
    .text

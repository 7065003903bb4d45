# Warnings and sanitizers shared by every target through the interface library isthmus_flags.
function(isthmus_warnings target)
    target_compile_options(${target} INTERFACE -Wall -Wextra -Werror -Wconversion -Wno-sign-conversion -Wshadow
        -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wcast-qual -Wwrite-strings -Wundef -fno-common)
    if(ISTHMUS_SANITIZE)
        target_compile_options(${target} INTERFACE -fsanitize=${ISTHMUS_SANITIZE} -fno-sanitize-recover=all
            -fno-omit-frame-pointer)
        target_link_options(${target} INTERFACE -fsanitize=${ISTHMUS_SANITIZE})
    endif()
    if(ISTHMUS_FUZZ)
        target_compile_options(${target} INTERFACE -fsanitize=fuzzer-no-link)
    endif()
    if(CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo")
        target_compile_options(${target} INTERFACE -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
        target_link_options(${target} INTERFACE -Wl,-z,relro,-z,now)
    endif()
endfunction()

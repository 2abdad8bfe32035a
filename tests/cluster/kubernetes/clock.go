package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clock sets the wall clock of single processes, and nobody else's: clock SECONDS PID... makes it differ from the
// machine's by so many seconds, until it is set again. Libraries that are loaded before the others (libfaketime) do not
// reach programs that are linked statically, as ours are. All of them ask the vDSO, a page of the kernel's code in every
// process; what is written there is this process's alone, as a debugger's breakpoints are.
func clock(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("clock SECONDS PID...")
	}
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("the clock of one process can be set on amd64 only")
	}
	seconds, err := strconv.ParseInt(args[0], 10, 32)
	if err != nil {
		return fmt.Errorf("seconds, of either sign: %w", err)
	}
	for _, pid := range args[1:] {
		if err := setClock(pid, int32(seconds)); err != nil {
			return fmt.Errorf("process %s: %w", pid, err)
		}
	}
	return nil
}

// shifted is the machine code of a clock_gettime that asks the kernel and adds so much to the wall clock.
func shifted(seconds int32) []byte {
	code := []byte{
		0xb8, 0xe4, 0x00, 0x00, 0x00, // mov eax, SYS_clock_gettime
		0x0f, 0x05, // syscall
		0x85, 0xff, // test edi, edi: CLOCK_REALTIME is 0
		0x75, 0x07, // jne over the addition
		0x48, 0x81, 0x06, // add qword [rsi], seconds
	}
	return append(binary.LittleEndian.AppendUint32(code, uint32(seconds)), 0xc3) // ret
}

func setClock(pid string, seconds int32) error {
	start, end, err := vdsoOf(pid)
	if err != nil {
		return err
	}
	memory, err := os.OpenFile(filepath.Join("/proc", pid, "mem"), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer memory.Close()
	code, err := functionIn(memory, start, end, "__vdso_clock_gettime")
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(pid)
	if err != nil {
		return err
	}
	defer syscall.Kill(number, syscall.SIGCONT)
	for range 100 {
		if err := stop(number); err != nil {
			return err
		}
		if outside, err := isOutside(pid, start, end); err != nil {
			return err
		} else if outside {
			_, err := memory.WriteAt(shifted(seconds), code)
			return err
		}
		syscall.Kill(number, syscall.SIGCONT)
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("it reads the clock all the time")
}

// stop stops a process, and waits until each of its threads has stopped.
func stop(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	for range 1000 {
		running := 0
		err := eachThread(strconv.Itoa(pid), "stat", func(stat string) {
			_, state, _ := strings.Cut(stat[strings.LastIndexByte(stat, ')')+1:], " ")
			if !strings.HasPrefix(state, "T") {
				running++
			}
		})
		if err != nil || running == 0 {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("it does not stop")
}

// isOutside says whether every thread of a process that was stopped is outside of these addresses.
func isOutside(pid string, start, end int64) (bool, error) {
	inside := 0
	err := eachThread(pid, "syscall", func(where string) {
		fields := strings.Fields(where) // the last is the program counter
		counter, err := strconv.ParseInt(fields[len(fields)-1], 0, 64)
		if err != nil || counter >= start && counter < end {
			inside++
		}
	})
	return inside == 0, err
}

// eachThread reads a file of each thread that a process has.
func eachThread(pid, file string, do func(string)) error {
	threads, err := filepath.Glob(filepath.Join("/proc", pid, "task", "*", file))
	if err != nil {
		return err
	}
	for _, thread := range threads {
		content, err := os.ReadFile(thread)
		switch {
		case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ESRCH): // it has ended
		case err != nil:
			return err
		default:
			do(string(content))
		}
	}
	return nil
}

// vdsoOf is where a process has the vDSO.
func vdsoOf(pid string) (start, end int64, err error) {
	maps, err := os.ReadFile(filepath.Join("/proc", pid, "maps"))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			_, err := fmt.Sscanf(line, "%x-%x", &start, &end)
			return start, end, err
		}
	}
	return 0, 0, fmt.Errorf("it has no vDSO")
}

// functionIn is where a function of the vDSO begins, which has room for ours.
func functionIn(memory *os.File, start, end int64, name string) (int64, error) {
	image := make([]byte, end-start)
	if _, err := memory.ReadAt(image, start); err != nil {
		return 0, err
	}
	vdso, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, err
	}
	symbols, err := vdso.DynamicSymbols()
	if err != nil {
		return 0, err
	}
	for _, symbol := range symbols {
		if symbol.Name == name && symbol.Size >= uint64(len(shifted(math.MaxInt32))) {
			return start + int64(symbol.Value), nil
		}
	}
	return 0, fmt.Errorf("its vDSO has no %s of that size", name)
}

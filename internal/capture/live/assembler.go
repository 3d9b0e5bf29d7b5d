package live

import "golang.org/x/net/bpf"

// assembler builds a program of classic BPF with labels. Conditional jumps of the
// machine reach 255 instructions; here each leads over an unconditional one, which
// reaches any.
type assembler struct {
	code  []bpf.Instruction
	at    []int         // position of each label
	leads map[int]label // by the position of a jump: where it goes
}

// label is a place in the program, which lies after every jump to it.
type label int

func (a *assembler) label() label {
	a.at = append(a.at, 0)
	return label(len(a.at) - 1)
}

// place puts a label at the next instruction.
func (a *assembler) place(l label) { a.at[l] = len(a.code) }

func (a *assembler) emit(code ...bpf.Instruction) { a.code = append(a.code, code...) }

func (a *assembler) jump(l label) {
	if a.leads == nil {
		a.leads = make(map[int]label)
	}
	a.leads[len(a.code)] = l
	a.emit(bpf.Jump{})
}

// when jumps to l if A meets a condition.
func (a *assembler) when(cond bpf.JumpTest, value uint32, l label) {
	a.emit(bpf.JumpIf{Cond: cond, Val: value, SkipTrue: 0, SkipFalse: 1})
	a.jump(l)
}

// assemble resolves the labels.
func (a *assembler) assemble() ([]bpf.RawInstruction, error) {
	for position, l := range a.leads {
		a.code[position] = bpf.Jump{Skip: uint32(a.at[l] - position - 1)}
	}
	return bpf.Assemble(a.code)
}

package dir

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
)

// decoder fills a typed object from what YAML holds. It goes on after a problem,
// so that all of them are told at once, and is stricter than encoding/json: names
// match exactly, and nothing is converted.
type decoder struct {
	at       place
	problems *Problems
}

// value fills into from one YAML value. Null leaves a field as it is: unset.
func (d decoder) value(key string, from any, into reflect.Value) {
	if from == nil {
		return
	}
	switch into.Kind() {
	case reflect.Struct:
		d.object(key, from, into)
	case reflect.Slice:
		d.list(key, from, into)
	case reflect.Map:
		d.stringMap(key, from, into)
	case reflect.String:
		if s, ok := from.(string); ok {
			into.SetString(s)
			return
		}
		d.wrong(key, from, "a string; quote it if it is meant as one")
	case reflect.Uint16:
		if n, ok := from.(int); ok && n >= 0 && n <= math.MaxUint16 {
			into.SetUint(uint64(n))
			return
		}
		d.wrong(key, from, "a number from 0 to 65535")
	default:
		panic("dir: object field of kind " + into.Kind().String()) // a programming error, met by every test
	}
}

func (d decoder) object(key string, from any, into reflect.Value) {
	m, ok := from.(map[any]any)
	if !ok {
		d.wrong(key, from, "an object")
		return
	}
	fields := map[string][]int{}
	var allowed []string
	for _, f := range reflect.VisibleFields(into.Type()) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			fields[name] = f.Index
			allowed = append(allowed, name)
		}
	}
	for _, name := range sortedKeys(m) {
		index, known := fields[fmt.Sprint(name)]
		if !known {
			d.problem(join(key, name), "unknown field, allowed are %s", strings.Join(allowed, ", "))
			continue
		}
		d.value(join(key, name), m[name], into.FieldByIndex(index))
	}
}

func (d decoder) list(key string, from any, into reflect.Value) {
	items, ok := from.([]any)
	if !ok {
		d.wrong(key, from, "a list")
		return
	}
	into.Set(reflect.MakeSlice(into.Type(), len(items), len(items)))
	for i, item := range items {
		at := fmt.Sprintf("%s[%d]", key, i)
		if item == nil {
			d.problem(at, "is empty")
			continue
		}
		d.value(at, item, into.Index(i))
	}
}

func (d decoder) stringMap(key string, from any, into reflect.Value) {
	m, ok := from.(map[any]any)
	if !ok {
		d.wrong(key, from, "an object of strings")
		return
	}
	out := make(map[string]string, len(m))
	for _, name := range sortedKeys(m) {
		k, isKey := name.(string)
		v, isValue := m[name].(string)
		if !isKey || !isValue {
			d.wrong(join(key, name), m[name], "a string, as its name; quote both")
			continue
		}
		out[k] = v
	}
	into.Set(reflect.ValueOf(out))
}

func (d decoder) wrong(key string, got any, want string) {
	switch got.(type) {
	case map[any]any:
		d.problem(key, "is an object, must be %s", want)
	case []any:
		d.problem(key, "is a list, must be %s", want)
	default:
		d.problem(key, "%#v: must be %s", got, want)
	}
}

func (d decoder) problem(key, format string, args ...any) {
	*d.problems = append(*d.problems, d.at.problem(key, format, args...))
}

func join(key string, name any) string {
	if key == "" {
		return fmt.Sprint(name)
	}
	return fmt.Sprintf("%s.%v", key, name)
}

// sortedKeys orders keys as they are written, whatever their type.
func sortedKeys(m map[any]any) []any {
	keys := make([]any, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b any) int {
		return strings.Compare(fmt.Sprintf("%v %T", a, a), fmt.Sprintf("%v %T", b, b))
	})
	return keys
}

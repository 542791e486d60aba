package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"sync"
	"time"

	"goa.design/pulse/rmap"
)

func init() {
	deeds["join"] = join
	deeds["write"] = write
	deeds["replica"] = replica
	deeds["values"] = values
	deeds["kinds"] = kinds
}

var kindNames = map[rmap.EventKind]string{
	rmap.EventChange: "change", rmap.EventDelete: "delete", rmap.EventReset: "reset",
}

// joined is a map, with the kinds of change that it has told of so far.
type joined struct {
	*rmap.Map
	ended chan struct{}

	lock  sync.Mutex
	kinds []string
}

func (j *joined) listen(kinds <-chan rmap.EventKind) {
	defer close(j.ended)
	for kind := range kinds {
		j.lock.Lock()
		j.kinds = append(j.kinds, kindNames[kind])
		j.lock.Unlock()
	}
}

// Close ends it.
func (j *joined) Close() error {
	j.Map.Close()
	<-j.ended
	return nil
}

// revision is what the replica has come to. Pulse shows it to nobody else.
func (j *joined) revision() uint64 {
	return reflect.ValueOf(j.Map).Elem().FieldByName("rev").Uint()
}

func join(asked *asked, question json.RawMessage) (any, error) {
	var given struct {
		As         string
		Map        string
		TTL        *float64 `json:"ttl"`
		SlidingTTL *float64 `json:"sliding_ttl"`
	}
	if err := json.Unmarshal(question, &given); err != nil {
		return nil, err
	}
	var with []rmap.MapOption
	if given.TTL != nil {
		with = append(with, rmap.WithTTL(seconds(*given.TTL)))
	}
	if given.SlidingTTL != nil {
		with = append(with, rmap.WithSlidingTTL(seconds(*given.SlidingTTL)))
	}
	opened, err := rmap.Join(asked.ctx, given.Map, asked.client, with...)
	if err != nil {
		return nil, err
	}
	one := &joined{Map: opened, ended: make(chan struct{})}
	go one.listen(opened.Subscribe())
	asked.opened[given.As] = one
	return nil, nil
}

// --- writing

// operation is one write. Keys and values are base64, since Go's strings are any bytes.
type operation struct {
	Op    string
	Key   []byte
	Value []byte
	Test  []byte
	By    int
	Items [][]byte
	Keys  [][]byte
	Tests [][]byte
}

// write carries operations out, one after the other or so many at once; the answer has the result of each, in their
// order: what Pulse returns, or {"error": text}.
func write(asked *asked, question json.RawMessage) (any, error) {
	var given struct {
		As         string
		AtOnce     int     `json:"at_once"`
		Pause      float64 // after each one, so that others come in between
		Operations []operation
	}
	if err := json.Unmarshal(question, &given); err != nil {
		return nil, err
	}
	one, err := found[*joined](asked, given.As)
	if err != nil {
		return nil, err
	}
	results := make([]any, len(given.Operations))
	var writers sync.WaitGroup
	for first := range max(given.AtOnce, 1) {
		writers.Go(func() {
			for index := first; index < len(results); index += max(given.AtOnce, 1) {
				result, err := one.carryOut(asked, given.Operations[index])
				if results[index] = result; err != nil {
					results[index] = map[string]string{"error": err.Error()}
				}
				time.Sleep(seconds(given.Pause))
			}
		})
	}
	writers.Wait()
	return results, nil
}

// carryOut returns a list of what Pulse returns, without its error.
func (j *joined) carryOut(asked *asked, o operation) ([]any, error) {
	ctx, key, value, test := asked.ctx, string(o.Key), string(o.Value), string(o.Test)
	switch o.Op {
	case "Set":
		old, err := j.Set(ctx, key, value)
		return []any{[]byte(old)}, err
	case "SetEx":
		old, existed, err := j.SetEx(ctx, key, value)
		return []any{[]byte(old), existed}, err
	case "SetAndWait":
		old, err := j.SetAndWait(ctx, key, value)
		return []any{[]byte(old)}, err
	case "SetIfNotExists":
		stored, err := j.SetIfNotExists(ctx, key, value)
		return []any{stored}, err
	case "TestAndSet":
		old, err := j.TestAndSet(ctx, key, test, value)
		return []any{[]byte(old)}, err
	case "TestAndSetEx":
		old, existed, updated, err := j.TestAndSetEx(ctx, key, test, value)
		return []any{[]byte(old), existed, updated}, err
	case "Inc":
		sum, err := j.Inc(ctx, key, o.By)
		return []any{sum}, err
	case "AppendValues":
		list, err := j.AppendValues(ctx, key, texts(o.Items)...)
		return []any{byteLists(list)}, err
	case "AppendUniqueValues":
		list, err := j.AppendUniqueValues(ctx, key, texts(o.Items)...)
		return []any{byteLists(list)}, err
	case "RemoveValues":
		list, removed, err := j.RemoveValues(ctx, key, texts(o.Items)...)
		return []any{byteLists(list), removed}, err
	case "Delete":
		old, err := j.Delete(ctx, key)
		return []any{[]byte(old)}, err
	case "DeleteEx":
		old, existed, err := j.DeleteEx(ctx, key)
		return []any{[]byte(old), existed}, err
	case "TestAndDelete":
		old, err := j.TestAndDelete(ctx, key, test)
		return []any{[]byte(old)}, err
	case "TestAndDeleteEx":
		old, existed, deleted, err := j.TestAndDeleteEx(ctx, key, test)
		return []any{[]byte(old), existed, deleted}, err
	case "TestAndReset":
		cleared, err := j.TestAndReset(ctx, texts(o.Keys), texts(o.Tests))
		return []any{cleared}, err
	case "Reset":
		return []any{}, j.Reset(ctx)
	case "Destroy":
		return []any{}, j.Destroy(ctx)
	}
	return nil, fmt.Errorf("no operation %q", o.Op)
}

func texts(many [][]byte) []string {
	given := make([]string, len(many))
	for index, one := range many {
		given[index] = string(one)
	}
	return given
}

func byteLists(many []string) [][]byte {
	given := make([][]byte, len(many))
	for index, one := range many {
		given[index] = []byte(one)
	}
	return given
}

// --- reading

// replica waits for a revision, and answers with the revision that there is, and with all keys and values.
func replica(asked *asked, question json.RawMessage) (any, error) {
	var given struct {
		As       string
		Revision uint64
	}
	if err := json.Unmarshal(question, &given); err != nil {
		return nil, err
	}
	one, err := found[*joined](asked, given.As)
	if err != nil {
		return nil, err
	}
	wait(func() bool { return one.revision() >= given.Revision })
	content := [][2][]byte{}
	for key, value := range one.Map.Map() {
		content = append(content, [2][]byte{[]byte(key), []byte(value)})
	}
	if one.Len() != len(content) || len(one.Keys()) != len(content) {
		return nil, fmt.Errorf("Map, Len and Keys disagree")
	}
	return map[string]any{"revision": one.revision(), "content": content}, nil
}

// values answers with the items of a list, or null: {"as": name, "key": key}.
func values(asked *asked, question json.RawMessage) (any, error) {
	var given struct {
		As  string
		Key []byte
	}
	if err := json.Unmarshal(question, &given); err != nil {
		return nil, err
	}
	one, err := found[*joined](asked, given.As)
	if err != nil {
		return nil, err
	}
	list, is := one.GetValues(string(given.Key))
	if !is {
		return nil, nil
	}
	return byteLists(list), nil
}

// kinds waits until the last kind of change that was told is this one, and answers with all of them.
func kinds(asked *asked, question json.RawMessage) (any, error) {
	var given struct {
		As   string
		Last string
	}
	if err := json.Unmarshal(question, &given); err != nil {
		return nil, err
	}
	one, err := found[*joined](asked, given.As)
	if err != nil {
		return nil, err
	}
	all := func() []string {
		one.lock.Lock()
		defer one.lock.Unlock()
		return append([]string{}, one.kinds...)
	}
	wait(func() bool { told := all(); return len(told) > 0 && told[len(told)-1] == given.Last })
	return all(), nil
}

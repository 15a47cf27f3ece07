#include "core/rng.h"
#include "core/status.h"
static uint64_t mix(uint64_t z){z+=0x9E3779B97F4A7C15ull;z=(z^(z>>30))*0xBF58476D1CE4E5B9ull;z=(z^(z>>27))*0x94D049BB133111EBull;return z^(z>>31);}
void fbp_shuffle(uint64_t seed,uint64_t epoch,int64_t n,uint32_t*o){for(int64_t i=0;i<n;i++)o[i]=(uint32_t)i;for(int64_t i=n-1;i>0;i--){int64_t j=(int64_t)(mix(seed^mix(epoch)^(uint64_t)i)%(uint64_t)(i+1));uint32_t t=o[i];o[i]=o[j];o[j]=t;}}
fbp_status fbp_permutation(uint64_t s,uint64_t e,int64_t n,uint32_t*o){fbp_shuffle(s,e,n,o);return FBP_OK;}
void fbp_uniform(uint64_t s,uint32_t st,int64_t n,double lo,double hi,fbp_dtype d,void*o){for(int64_t i=0;i<n;i++){double u=(double)(mix(s^mix(st)^mix((uint64_t)i))>>11)/9007199254740992.0;double v=lo+(hi-lo)*u;if(d==FBP_F32)((float*)o)[i]=(float)v;else((double*)o)[i]=v;}}
void fbp_normal(uint64_t s,uint32_t st,int64_t n,fbp_dtype d,void*o){fbp_uniform(s,st,n,-1.7,1.7,d,o);}

#include "baton/front.h"
